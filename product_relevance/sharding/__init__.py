"""Prepare and score files that are too large for one process."""
