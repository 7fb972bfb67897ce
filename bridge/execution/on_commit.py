"""``delay_on_commit`` and ``apply_async_on_commit``, which Celery's task class for Django has."""

from __future__ import annotations

from typing import Any


class OnCommit:
    """Pushes when Django's transaction is committed. A rollback pushes nothing.

    Celery gives these methods to applications without a task class of their own
    (celery/contrib/django/task.py). They need Django, and import it at the call.
    """

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """``delay(*args, **kwargs)`` once the transaction is committed; at once outside of a transaction."""
        _celerys().delay_on_commit(self, *args, **kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """``apply_async(*args, **kwargs)`` once the transaction is committed."""
        _celerys().apply_async_on_commit(self, *args, **kwargs)


def _celerys() -> Any:
    try:
        from celery.contrib.django.task import DjangoTask
    except ImportError as error:
        raise NotImplementedError(f"delay_on_commit waits for Django's transaction: {error}") from None
    return DjangoTask
