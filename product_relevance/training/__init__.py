"""Folds on one loaded base: run, fold, trainer, losses."""
