"""Records: read, checked, given columns, divided into folds without leaks, written as submissions."""
