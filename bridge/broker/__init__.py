"""kombu's world: the virtual transport on Sidekiq's lists. Knows nothing of Celery."""
