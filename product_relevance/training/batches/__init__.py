"""What a training step sees: rows, their order, micro-batches."""
