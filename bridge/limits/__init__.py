"""Limits across the fleet: how many jobs run at once, and how many begin in a second."""
