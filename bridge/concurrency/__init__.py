"""Pools, as Celery calls them: the own hybrid pool, its threads and greenlets, prefork."""
