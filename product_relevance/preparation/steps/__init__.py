"""The steps of a data recipe: one file per kind, with its options and the call that runs it."""
