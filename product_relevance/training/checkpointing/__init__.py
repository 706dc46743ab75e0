"""Checkpoints of a fold: whole ones marked, recorded, resumed from."""
