"""Due entries of the sets schedule and retry."""
