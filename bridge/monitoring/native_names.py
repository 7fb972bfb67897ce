"""Which tasks run jobs in Python, by name, and which names are nearly that of a class in the queues."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from bridge.broker.messages import RUBY_TASK
from bridge.execution.canvas import ERRBACK_TASK
from bridge.execution.task import SidekiqTask

#: As similar as two names are that differ in one or two letters.
SIMILAR = 0.86
_INNER = frozenset([RUBY_TASK, "SidekiqBridge::NativeProbe", ERRBACK_TASK])
_ENDINGS = re.compile(r"(job|worker|task)$")


class Near(NamedTuple):
    """A class whose jobs wait, and the native task that was perhaps meant for them."""

    job_class: str
    task: str

    def __str__(self) -> str:
        return f"{self.task} (near {self.job_class}, which waits)"


def native(app: Any) -> list[str]:
    """Names of the classes that run in Python, in the order of the alphabet."""
    return ours(name for name, task in app.tasks.items() if isinstance(task, SidekiqTask))


def in_ruby_middleware(app: Any) -> list[str]:
    """Of those, the ones that run inside the app's server middleware."""
    return [name for name in native(app) if app.tasks[name].in_ruby_middleware]


def near(classes: Iterable[str], tasks: Collection[str]) -> list[Near]:
    """The classes that no task has, and that some task nearly has."""
    found = ((name, _nearest(name, tasks)) for name in sorted({*classes}) if name not in tasks)
    return [Near(name, task) for name, task in found if task is not None]


def ours(names: Iterable[str]) -> list[str]:
    """Of the names of all tasks, those that a user has written."""
    return sorted(name for name in names if name not in _INNER and not name.startswith("celery."))


def _nearest(name: str, tasks: Collection[str]) -> str | None:
    same = (task for task in tasks if _core(task) == _core(name))
    similar = difflib.get_close_matches(name, tasks, n=1, cutoff=SIMILAR)
    return next(same, next((task for task in similar if _letters(task) != _letters(name)), None))


def _core(name: str) -> str:
    """``myapp.report_job``, ``Admin::ReportJob`` and ``reportWorker`` are all about ``report``."""
    last = re.split(r"::|\.", name)[-1].replace("_", "").casefold()
    return _ENDINGS.sub("", last) or last


def _letters(name: str) -> str:
    """``Step1Job`` and ``Step2Job`` are two classes, not one and its misspelling."""
    return re.sub(r"\d+", "", name)
