"""The ``bridge`` command, and the same commands as ``celery -A bridge sidekiq``.

Light on purpose: Celery imports this module with every command of every application in the same environment.
"""

from bridge.cli.group import main, sidekiq

__all__ = ["main", "sidekiq"]
