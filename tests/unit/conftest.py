"""What unit tests of one process must not see of each other."""

from __future__ import annotations

import pytest
from celery import _state


@pytest.fixture
def no_shared_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new application has Celery's own tasks only, not those that other tests' modules share with it."""
    own = {each for each in _state._on_app_finalizers if each.__module__ == "celery.app.builtins"}
    monkeypatch.setattr(_state, "_on_app_finalizers", own)
