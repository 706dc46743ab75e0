"""Runs that a run starts from or learns from: warm start and distillation."""
