"""Find doubtful labels, filter, correct and review them."""
