"""Clean texts, identify languages, split category paths, and render pairs and prompts."""
