"""Files too large for one process."""
