"""Batches: many jobs of either language, and jobs that follow when all of them have ended."""
