"""Describe and draw a file of records."""
