"""Use parent and teacher runs: warm start and distillation."""
