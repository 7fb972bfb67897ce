"""The options of Celery's pools that need a library which is not installed for the tests."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bridge.errors import ConfigurationError
from bridge.worker import pool_options


def test_eventlet_is_refused_with_a_pool_to_use_instead() -> None:
    """It was accepted, and no test had ever run on it."""
    pool = type("TaskPool", (), {"__module__": "celery.concurrency.eventlet"})

    with pytest.raises(ConfigurationError, match=r"-P eventlet.*-P gevent"):
        pool_options.check(SimpleNamespace(pool_cls=pool, pool_start_method="fork"))
