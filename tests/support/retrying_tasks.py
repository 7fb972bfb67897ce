"""Native tasks that decide about their own retries, in the ways of Celery's documentation."""

from __future__ import annotations

import contextlib
from typing import Any

from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import note

DELAY = 3600


class Other(Exception):
    """An error that a task does not name."""


_RING: list[Any] = []
_RING.append(_RING)
_DEEP: list[Any] = []
for _ in range(99):
    _DEEP = [_DEEP]

#: Arguments of self.retry that had another effect than they say, or lost the job's way.
SLIPS: dict[str, dict[str, Any]] = {
    "queue no worker reads": {"queue": "bad name*"},
    "queue without a name": {"queue": ""},
    "queue number": {"queue": 5},
    "queue no UTF-8": {"queue": "\ud800"},
    "args text": {"args": "abc"},
    "args object": {"args": {"a": 1}},
    "args number": {"args": 5},
    "args deep": {"args": [_DEEP]},
    "args ring": {"args": _RING},
    "countdown nan": {"countdown": float("nan")},
    "countdown infinite": {"countdown": float("inf")},
    "countdown huge": {"countdown": 10**400},
    "countdown text": {"countdown": "5"},
    "max_retries text": {"max_retries": "x"},
    "max_retries infinite": {"max_retries": float("inf")},
}
#: What Celery takes as an error, and the class and message that the entry shows.
CAUSES: dict[str, tuple[Any, str, str]] = {
    "exc class": (ValueError, "ValueError", ""),
    "exc text": ("in words", "Exception", "in words"),
}
SLIPS |= {way: {"exc": exc} for way, (exc, _, _) in CAUSES.items()}


@app.task(name="AskingJob", bind=True)
def asking(self: SidekiqTask, way: str) -> None:  # noqa: C901 - one branch for each way
    """Ask for a retry, and end in another way."""
    note(self, "started", way)
    if way == "without a throw":
        self.retry(countdown=DELAY, throw=False)
    elif way == "swallowed":
        with contextlib.suppress(Exception):
            raise self.retry(countdown=DELAY)
    elif way == "another error":
        self.retry(countdown=DELAY, throw=False)
        raise Other("after the retry")
    elif way == "ignored":
        self.retry(countdown=DELAY, throw=False)
        raise Ignore
    elif way == "rejected":
        self.retry(countdown=DELAY, throw=False)
        raise Reject("no")
    elif way == "bare":
        raise Retry("by hand", None, DELAY)
    elif way == "other arguments":
        raise self.retry(args=["again", {"n": 1}], queue="other", time_limit=30, countdown=DELAY)
    elif way == "given up":
        with contextlib.suppress(MaxRetriesExceededError):
            self.retry(max_retries=0)
    elif way == "swallowed ignore":
        with contextlib.suppress(Exception):
            raise Ignore
    elif way == "swallowed reject":
        with contextlib.suppress(Exception):
            raise Reject("no")
    elif way == "replaced":
        with contextlib.suppress(Ignore):
            self.replace(done.s(way))
    elif way == "keywords":
        raise self.retry(kwargs={"a": 1})
    elif way == "an option":
        raise self.retry(priority=3)
    elif way in SLIPS:
        raise self.retry(**{"countdown": DELAY, **SLIPS[way]})
    note(self, "done", way)


@app.task(name="DoneJob", bind=True)
def done(self: SidekiqTask, *args: Any) -> None:
    note(self, "done", *args)


def failing(name: str, error: BaseException, **options: Any) -> None:
    @app.task(name=name, bind=True, **options)
    def fail(self: SidekiqTask) -> None:
        note(self, "started")
        raise error


#: name -> error, options. The entry that a first failure leaves is written in the test.
OPTIONS: dict[str, tuple[BaseException, dict[str, Any]]] = {
    "NamedJob": (OSError("named"), {"autoretry_for": (OSError,)}),
    "UnnamedJob": (Other("unnamed"), {"autoretry_for": (OSError,)}),
    "NothingNamedJob": (Other("nothing"), {"autoretry_for": ()}),
    "ExceptedJob": (Other("excepted"), {"dont_autoretry_for": (Other,)}),
    "NotExceptedJob": (ValueError("other"), {"dont_autoretry_for": (Other,)}),
    "DelayedJob": (Other("delayed"), {"default_retry_delay": DELAY}),
    "CountdownJob": (Other("countdown"), {"retry_kwargs": {"countdown": DELAY, "max_retries": 5}}),
    "LowLimitJob": (Other("low"), {"max_retries": 2}),
    "LowKwargsJob": (Other("low"), {"retry_kwargs": {"max_retries": 2}}),
    "HighLimitJob": (Other("high"), {"max_retries": 40}),
    "BackoffJob": (
        Other("backoff"),
        {"retry_backoff": 500, "retry_backoff_max": 1500, "retry_jitter": False},
    ),
}
for each, (raised, chosen) in OPTIONS.items():
    failing(each, raised, **chosen)


@app.task(name="OwnLimitJob", bind=True)
def own_limit(self: SidekiqTask) -> None:
    note(self, "started")
    raise self.retry(exc=Other("own"), max_retries=1, countdown=DELAY)
