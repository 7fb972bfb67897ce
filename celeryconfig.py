"""Celery's settings, for people who look for them here; they live in ``bridge/celery_settings.py``."""

from bridge.celery_settings import *  # noqa: F403
