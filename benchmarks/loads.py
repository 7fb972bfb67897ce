"""The work of a measurement: a number of jobs of one kind, and their form in Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arguments import arguments, global_id
from benchmarks.site import Site

ID = "@ID@"
STAGING = "bench:staging:"
SCHEDULE = "schedule"
CHUNK = 20_000
#: Most bytes that one call of the script makes: Redis does nothing else meanwhile.
CHUNK_BYTES = 20_000_000
_FILL = (Path(__file__).parent / "apps/fill.lua").read_text()

#: Kind of job -> Ruby class.
RUBY = {
    "noop": "NoopJob",
    "wait": "WaitJob",
    "cpu": "CpuJob",
    "fail": "FailJob",
    "probe": "ProbeJob",
    "write": "BenchWriteJob",
    "find": "BenchFindJob",
}


@dataclass(frozen=True)
class Load:
    """Jobs of one kind. ``milliseconds`` is the time that a job waits or computes.

    ``batches`` is the number of parts: each part follows when the one before is done. ``backlog`` is the
    number of jobs in the queue at the beginning, of which the run measures only the first ``jobs``.
    ``kilobytes`` is the size of the arguments as JSON, of the given ``shape``; 0: one number. ``due`` jobs
    begin in ``schedule``, with their time over.
    """

    kind: str
    milliseconds: float = 0
    batches: int = 1
    backlog: int = 0
    kilobytes: int = 0
    shape: str = "records"
    due: bool = False

    @property
    def args(self) -> tuple[Any, ...]:
        """Arguments of a job."""
        if self.kind == "find":
            return global_id(self.kilobytes * 1000)
        own = (self.milliseconds,) if self.milliseconds else ()
        if self.kilobytes:
            return own + arguments(self.shape, self.kilobytes * 1000)
        return own or (1,)


def sidekiq_payload(job_class: str, args: Sequence[Any], queue: str, jid: str = ID) -> str:
    """A job as Sidekiq's client writes it."""
    now = time.time()
    fields = {"retry": True, "queue": queue, "class": job_class, "args": args, "jid": jid}
    return _compact(fields | {"created_at": now, "enqueued_at": now})


def active_job_payload(job_class: str, args: Sequence[Any], queue: str) -> str:
    """A job as ActiveJob's adapter for Sidekiq writes it."""
    wrapped: dict[str, Any] = {
        "job_class": job_class,
        "job_id": ID,
        "provider_job_id": None,
        "queue_name": queue,
    }
    wrapped |= {"priority": None, "arguments": args, "executions": 0, "exception_executions": {}}
    wrapped |= {"locale": "en", "timezone": "UTC", "enqueued_at": "2026-01-01T00:00:00Z"}
    outer = json.loads(
        sidekiq_payload("ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper", [wrapped], queue)
    )
    return _compact({**outer, "wrapped": job_class})


def stage(site: Site, templates: Sequence[tuple[str, str]], jobs: int, first: int, tag: str = "") -> None:
    """Write jobs where no worker sees them, spread evenly over (list, template) pairs; at least one each."""
    script = site.server.register_script(_FILL)
    bounds = [first + jobs * place // len(templates) for place in range(len(templates) + 1)]
    for (key, template), start, end in zip(templates, bounds[:-1], bounds[1:], strict=True):
        chunk = max(1, min(CHUNK, CHUNK_BYTES // len(template)))
        for begin in range(start, end, chunk):
            score = "1" if key == SCHEDULE else ""
            args = [template, begin, min(begin + chunk, end) - 1, score]
            script(keys=[f"{STAGING}{tag}{key}"], args=args)


def release(site: Site, keys: Sequence[str], tag: str = "") -> None:
    """Let the workers see them, all at one stroke."""
    with site.server.pipeline(transaction=True) as pipeline:
        for key in keys:
            pipeline.rename(f"{STAGING}{tag}{key}", key)
        pipeline.execute()


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
