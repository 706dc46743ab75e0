"""Heads that turn the hidden states of a base into two logits."""
