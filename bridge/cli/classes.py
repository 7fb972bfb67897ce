"""Names of job classes as a person typed them."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta

import click

from bridge.cli import active_jobs
from bridge.cli.parts import Parts
from bridge.redis.outages import outages
from bridge.sidekiq import keys

#: The past that is looked at in the metrics: minutes of Sidekiq 7, tens of minutes of Sidekiq 8.
_MINUTES = 60
_TENS_OF_MINUTES = 144


def unknown(parts: Parts, job_class: str) -> str | None:
    """A sentence where Redis has no trace of a class: the name may be a slip. Ask before the push."""
    name = job_class.removeprefix("::")
    known = _waiting(parts) | _running(parts) | _counted(parts)
    if name in known:
        return None
    close = difflib.get_close_matches(name, known, n=1)
    return f"no trace of {name} is in this Redis" + (f": did you mean {close[0]}?" if close else " yet")


def hint(sentence: str | None) -> None:
    """Say it on stderr."""
    if sentence is not None:
        click.echo(sentence, err=True)


def _waiting(parts: Parts) -> set[str]:
    jobs = (entry.job for entry in active_jobs.sample(parts))
    return {name for job in jobs for name in (job.job_class, job.wrapped) if name}


def _running(parts: Parts) -> set[str]:
    rows = parts.processes.running([row.identity for row in parts.processes.all()])
    return {row.job_class for row in rows if row.job_class}


def _counted(parts: Parts) -> set[str]:
    """The classes on the Metrics page. Its fields are ``HardJob|p``, ``HardJob|f`` and ``HardJob|ms``."""
    now = datetime.now(UTC)
    minutes = [now - timedelta(minutes=n) for n in range(_MINUTES)]
    tens = [now - timedelta(minutes=10 * n) for n in range(_TENS_OF_MINUTES)]
    with outages():
        pipeline = parts.client.pipeline(transaction=False)
        for time in minutes:
            pipeline.hkeys(keys.metrics_minute_7(time))
        for time in tens:
            pipeline.hkeys(keys.metrics_ten_minutes_8(time))
        found = pipeline.execute(raise_on_error=False)
    fields = (field for each in found if isinstance(each, list) for field in each)
    return {field.decode("utf-8", "replace").rpartition("|")[0] for field in fields}
