"""Celery's settings, for people who look for them here; they live in ``bridge/policy.py``."""

from bridge.policy import *  # noqa: F403
