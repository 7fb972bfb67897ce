"""Celery's worker: bootsteps, consumer, events, preflight checks, shutdown, remote control."""
