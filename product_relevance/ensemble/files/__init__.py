"""Files of pairs: scored, evaluated, compared, judged and ranked by a loaded model."""
