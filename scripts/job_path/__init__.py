"""Follows one job through a real worker, from its push to its settlement, by a profile hook."""
