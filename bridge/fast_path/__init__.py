"""Jobs that nothing observes: they skip Celery's tracer and its producer."""
