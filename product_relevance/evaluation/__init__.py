"""Labels and scores in, figures out: metrics, thresholds, calibration, reports; without torch."""
