"""Made rows: noise, translated rows, hard and easy negatives."""
