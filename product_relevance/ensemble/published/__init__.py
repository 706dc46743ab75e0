"""What a published ensemble says of itself: its manifest, checked, and the pairs that prove a download."""
