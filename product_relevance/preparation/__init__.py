"""The recipe of a data set and its steps."""
