"""Sidekiq's world: jobs, queues and sets in Redis. Knows nothing of Celery or kombu."""
