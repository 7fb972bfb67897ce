"""ActiveJob classes, which Sidekiq runs inside a wrapper: a job with such a class of its own runs nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from bridge import errors
from bridge.cli.parts import Parts
from bridge.sidekiq.api.entries import Entry

#: Jobs of each place that are read: the next to run, and the latest of the sets.
SAMPLE = 200
_REFUSAL = "is an ActiveJob"


def refuse(parts: Parts, job_class: str, args: Sequence[Any]) -> None:
    """Refuse a push that can only end in the dead set, and say which way works.

    Known by the jobs that are there: Rails wraps each job of the class, and the sidecar refuses a bare one.

    Raises:
        UsageError: the class is an ActiveJob.
    """
    seen = next((entry for entry in sample(parts) if _shows(entry, job_class.removeprefix("::"))), None)
    if seen is not None:
        ruby = f"{job_class}.perform_later({', '.join(map(_literal, args))})"
        raise click.UsageError(
            f"{job_class} is an ActiveJob (see {seen.place}), which Sidekiq runs only as Rails enqueues it: "
            f"bin/rails runner '{ruby}'. Add --yes where a Python task has this name"
        )


def sample(parts: Parts) -> Iterator[Entry]:
    """The first jobs of each place."""
    for place in parts.entries.places():
        try:
            yield from itertools.islice(parts.entries.in_order(place), SAMPLE)
        except errors.StoreUnavailable:
            raise
        except errors.StoreError:  # a key of a wrong type: `doctor` reports it
            continue


def _shows(entry: Entry, job_class: str) -> bool:
    job = entry.job
    if job.is_active_job:
        return job.wrapped == job_class
    return job.job_class == job_class and _REFUSAL in str(job.fields.get("error_message"))


def _literal(value: Any) -> str:
    """As Ruby writes it; a list or an object as its parser reads it."""
    if value is None:
        return "nil"
    text = json.dumps(value, ensure_ascii=False)
    return f"JSON.parse(%q({text}))" if isinstance(value, list | dict) else text
