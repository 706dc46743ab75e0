"""Engines that other people run, in the place of torch."""
