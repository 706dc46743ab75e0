"""A base with its head and adapter, loaded whole or refused; tokens in, logits out."""
