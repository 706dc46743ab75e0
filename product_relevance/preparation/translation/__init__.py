"""Engines into English and out of it, their cache, checks and quality."""
