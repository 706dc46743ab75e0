"""Prepare data sets by recipes: translation, augmentation, label corrections and exploration."""
