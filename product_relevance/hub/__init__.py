"""Cards, staging and publishing."""
