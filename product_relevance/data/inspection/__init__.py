"""A file that nobody has described: what its columns, labels and pairs are, what is doubtful, and a recipe for it."""
