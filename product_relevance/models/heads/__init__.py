"""What turns the hidden states of a base into two logits."""
