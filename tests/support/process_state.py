"""What one file of tests leaves in its process must not change the next one. Chance decides which that is.

Celery shares a task with every application that the process makes later. A push of that name then carries
the options of a task that the pushing test does not know. Settings read the environment in the same way.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

#: Set by pytest and its plugins themselves.
_OF_PYTEST = ("PYTEST_", "COV_")


@pytest.fixture(scope="module", autouse=True)
def _left_as_found() -> Iterator[None]:
    with as_found():
        yield


@contextlib.contextmanager
def as_found() -> Iterator[None]:
    """Forget the tasks that were declared meanwhile. A changed environment is put right, and an error."""
    environment, finalizers, modules = _environment(), set(_finalizers()), set(sys.modules)
    yield
    _finalizers().difference_update([each for each in _finalizers() - finalizers if _is_of_tests(each)])
    for name in sys.modules.keys() - modules:
        if name.startswith("tests.support.") and name.endswith(("_tasks", "_coroutines")):
            del sys.modules[name]  # a later import declares its tasks again
    changed = dict(environment.items() ^ _environment().items())
    for name in changed:
        os.environ.pop(name, None)
        if name in environment:
            os.environ[name] = environment[name]
    assert not changed, f"a test has left the environment changed: {sorted(changed)}; use monkeypatch.setenv"


def _finalizers() -> set[Callable[..., Any]]:
    """What Celery calls for each new application; empty while nobody has loaded Celery."""
    state = sys.modules.get("celery._state")
    return set() if state is None else state._on_app_finalizers


def _is_of_tests(finalizer: Callable[..., Any]) -> bool:
    """Whether it declares a function of a test, and not one of Celery's or the bridge's."""
    names = getattr(finalizer, "__code__", None)
    cells = dict(zip(names.co_freevars, finalizer.__closure__ or (), strict=True)) if names else {}
    return "fun" in cells and str(cells["fun"].cell_contents.__module__).startswith("tests.")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_PYTEST)}
