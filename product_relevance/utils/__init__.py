"""Files, options, the run folder, tasks: what every room uses, without torch."""
