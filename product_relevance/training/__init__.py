"""Train folds on one loaded base."""
