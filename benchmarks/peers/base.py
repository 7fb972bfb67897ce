"""A peer: starts its processes, knows the form of its jobs in Redis and counts the unfinished ones."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.loads import RUBY, SCHEDULE, Load, sidekiq_payload
from benchmarks.processes import ROOT, BenchmarkFailed, end, running, tail, wait_until
from benchmarks.roots import RubyRoot
from benchmarks.site import Site

READY_SECONDS = 60.0
#: Bytes of arguments that each peer gets through in a second, roughly and at least.
SMALL_BYTES_PER_SECOND = 60e6


@dataclass(frozen=True)
class Setup:
    """How a peer is started. ``workers`` processes with ``concurrency`` slots each."""

    concurrency: int = 20
    workers: int = 1
    queues: tuple[str, ...] = ("default",)
    rails: bool = False
    poll_seconds: str = ""
    """How often Sidekiq looks for due jobs, on average. Empty: as it does by itself."""


@dataclass(frozen=True)
class Start:
    """One process to be started; ``ready`` is asked until it is true."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    ready: Callable[[], object]
    cwd: Path = ROOT


@dataclass
class Team:
    """The running processes of a peer, in the order in which they were started."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        """Their pids; what they started themselves is found in /proc."""
        return [process.pid for process in self.processes]


class Peer(ABC):
    """Who is measured."""

    #: How many no-op jobs it may do in a second: only for choosing how many it gets.
    noop_rate = 8000.0
    #: Cores that computing jobs may use.
    cores = 1
    #: The Ruby that it runs in, if any.
    root: RubyRoot | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def starts(self, site: Site, setup: Setup) -> list[Start]:
        """Its processes, in the order in which they are to be started."""

    def template(self, load: Load, queue: str) -> tuple[str, str]:
        """Return (list, job as the list holds it, with ``@ID@`` in place of its id)."""
        return f"queue:{queue}", sidekiq_payload(self.job_class(load), load.args, queue)

    def probe(self, args: Sequence[Any], jid: str, queue: str = "default") -> tuple[str, str]:
        """(list, job) of one probe: it writes down when it started."""
        return f"queue:{queue}", sidekiq_payload(RUBY["probe"], args, queue, jid)

    def job_class(self, load: Load) -> str:
        """The class of its jobs of this kind."""
        return RUBY[load.kind]

    def left(self, site: Site, setup: Setup) -> int:
        """Jobs that wait, those that are due, and those that run as far as Redis knows of them."""
        with site.server.pipeline(transaction=False) as pipeline:
            for queue in setup.queues:
                pipeline.llen(f"queue:{queue}")
            pipeline.zcard(SCHEDULE)
            return sum(pipeline.execute())

    def executed_so_far(self, site: Site) -> int | None:
        """Jobs that it says it has done, asked while it runs; None where only Redis tells, after its end."""
        return None

    def expected_rate(self, load: Load, setup: Setup) -> float:
        """Jobs per second, roughly."""
        rate = self.noop_rate if setup.workers == 1 else self.noop_rate * 1.5
        if load.kilobytes:
            rate = min(rate, SMALL_BYTES_PER_SECOND / (load.kilobytes * 1000))
        if load.kind in ("write", "fail", "find") or load.due:
            rate = min(rate / 3, 1500.0)
        if load.kind == "wait":
            rate = min(rate, setup.workers * setup.concurrency * 1000 / load.milliseconds)
        if load.kind == "cpu":
            rate = min(rate, max(self.cores, min(2, setup.workers)) * 1000 / load.milliseconds)
        return rate

    def clean(self, site: Site) -> None:
        """Remove what it left outside the folder of the run."""
        if self.root is not None:
            self.root.forget(site.folder)

    @contextmanager
    def started(self, site: Site, setup: Setup) -> Iterator[Team]:
        """Its processes for the time of the block, all ready. Workers begin together, after the others."""
        team = Team()
        starts = self.starts(site, setup)
        others, workers = starts[: -setup.workers], starts[-setup.workers :]
        with ExitStack() as stack:
            stack.callback(lambda: end(team.processes))
            for part in (*([start] for start in others), workers):
                for start in part:
                    self._start(stack, team, start, site)
                for start, process in zip(part, team.processes[-len(part) :], strict=True):
                    self._wait_ready(process, start, site)
            yield team

    @contextmanager
    def starting(self, site: Site, setup: Setup) -> Iterator[Team]:
        """The same, but started all at once and not waited for."""
        team = Team()
        with ExitStack() as stack:
            stack.callback(lambda: end(team.processes))
            for start in self.starts(site, setup):
                self._start(stack, team, start, site)
            yield team

    def _start(self, stack: ExitStack, team: Team, start: Start, site: Site) -> None:
        log = self._log(start, site)
        process = stack.enter_context(running(start.command, start.env, log, start.cwd))
        team.processes.append(process)

    def _wait_ready(self, process: subprocess.Popen[bytes], start: Start, site: Site) -> None:
        def ready_or_gone() -> object:
            if process.poll() is not None:
                raise BenchmarkFailed(f"{start.name} ended: {tail(self._log(start, site))}")
            return start.ready()

        try:
            wait_until(ready_or_gone, READY_SECONDS, f"{start.name} to be ready")
        except BenchmarkFailed as error:
            raise BenchmarkFailed(f"{error}: {tail(self._log(start, site))}") from None

    @staticmethod
    def _log(start: Start, site: Site) -> Path:
        return site.folder / f"{start.name}.log"
