"""Doubtful labels: found, filtered, corrected, reviewed by hand."""
