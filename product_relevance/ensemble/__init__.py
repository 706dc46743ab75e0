"""A finished run as one model: found, checked, loaded, averaged, stacked; files scored."""
