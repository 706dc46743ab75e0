"""The page of `relevance demo`: what a person asks, what the model answers, and how a browser shows it."""
