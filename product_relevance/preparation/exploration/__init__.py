"""A file of records, described and drawn."""
