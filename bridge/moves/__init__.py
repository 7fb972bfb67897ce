"""Moves of job classes from Ruby to Python, a percent at a time."""
