"""Translate into English and out of it, with a cache, checks and quality figures."""
