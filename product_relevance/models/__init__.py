"""Load a base with its head and adapter whole or not at all, and compute logits of token ids."""
