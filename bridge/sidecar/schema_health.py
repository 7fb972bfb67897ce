"""The reply to ``/health``, field by field, by the rules of :mod:`bridge.sidecar.schema`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bridge.sidecar.schema_types import (
    FEWEST_DEAD_JOBS,
    MOST,
    SHORTEST_DEAD_SECONDS,
    Boot,
    Count,
    Said,
    Version,
    Word,
    Words,
)


class DeadSetLimits(Said):
    max_jobs: int = Field(ge=FEWEST_DEAD_JOBS, le=MOST)
    timeout_seconds: int = Field(ge=SHORTEST_DEAD_SECONDS, le=MOST)


class WorkerState(Said):
    """One Puma worker, in ``/health``."""

    boot: Boot
    url: Annotated[str, StringConstraints(max_length=500, pattern=r"^[\x21-\x7e]+$")]
    slots: int = Field(ge=1, le=100_000)
    busy: int = Field(ge=0, le=1_000_000)
    draining: bool = False


class AppQueue(Said):
    """A queue that the app registers as it starts, in ``/health``."""

    name: Word
    concurrency: Count | None = None
    capsule: Word = ""
    ahead: bool = False


class HealthReply(Said):
    """200 to ``/health``, as far as the worker uses it."""

    protocol: int
    status: Literal["booting", "ready", "draining"]
    sidekiq: Version
    max_retries: Count
    dead: DeadSetLimits
    workers: list[WorkerState] = Field(min_length=1, max_length=1024)
    client_middleware: Words = Field(default_factory=list)
    cron: Words = Field(default_factory=list)
    cron_unserved: Words = Field(default_factory=list)
    queues: list[AppQueue] = Field(default_factory=list, max_length=1000)
    version: Word = ""
    now: float | None = Field(None, ge=0, le=1e11)
    timeout_seconds: float | None = Field(None, ge=0, le=MOST)
    database_pool: Count | None = None
    traces_on_streams: bool = False
    error_handlers: bool | None = None
    python_bodies: bool = False
    pushes: bool = False
    results: bool = False
    values: bool = False
    gems: dict[Word, Word] = Field(default_factory=dict, max_length=1000)
    fetch: Word | None = None
    patches: Words = Field(default_factory=list)
    unknown_options: Words = Field(default_factory=list)
