"""Weights and configs of a base: found, checked, loaded whole or refused."""
