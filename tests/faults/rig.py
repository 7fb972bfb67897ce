"""A whole deployment for the fault tests: Redis, sidecars of several Puma workers, and several workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import redis

from tests.faults.account import Account, Ended, Pushed, draw_up
from tests.faults.wire import Wire
from tests.support import census
from tests.support.processes import ROOT, UNREADY, free_port
from tests.support.redis_server import RedisServer
from tests.support.ruby_helper import RubyHelper
from tests.support.ruby_root import RubyRoot
from tests.support.sidecar_process import SidecarProcess
from tests.support.stage import Stage
from tests.support.waiting import NeverHappened, wait_for
from tests.support.worker_process import WorkerProcess

RUBY = ROOT / "tests/faults/ruby"
MODULE = "tests.faults.fault_tasks"
PAGES = ("/", "/busy", "/queues", "/queues/default", "/retries", "/scheduled", "/morgue", "/stats")
LEASE_SECONDS = 5

#: Ruby and native jobs, short and less short, and some that fail once.
MIX: tuple[tuple[str, list[Any]], ...] = (
    ("SleepJob", [0.05]),
    ("NativeSleepJob", [0.05]),
    ("SleepJob", [0.4]),
    ("NativeSleepJob", [0.4]),
    ("SleepJob", [0]),
    ("FailOnceJob", []),
    ("NativeSleepJob", [0]),
    ("NativeFailOnceJob", []),
)


class Rig(Stage):
    """Starts all of it, keeps account of what the test kills, and puts it right again for the next test."""

    def __init__(self, server: RedisServer, root: RubyRoot) -> None:
        super().__init__(server, root, jobs=RUBY / "fault_jobs.rb")
        self.workers: dict[str, WorkerProcess] = {}
        self.sidecars: dict[str, SidecarProcess] = {}
        self.ended: set[int] = set()
        self.killed_at: dict[int, float] = {}
        self.lease_seconds = LEASE_SECONDS
        self._feeder: RubyHelper | None = None
        # Workers reach Redis and sidecars through wires that a test can cut.
        port = free_port()
        self.redis_wire = Wire(port, server.port)
        self.worker_redis_url = f"redis://127.0.0.1:{port}/{self.database}"
        self.sidecar_wires: dict[str, Wire] = {}
        self._wired = self.directory / "w"
        self._wired.mkdir()

    # -- starting

    def add_sidecar(self, name: str, *, workers: int = 2, threads: int = 6, **options: Any) -> SidecarProcess:
        made = SidecarProcess(
            self.root, self.place, self.redis_url,
            require=self.jobs, threads=threads, name=name,
            arguments=("--workers", str(workers), "--timeout", "4", *options.pop("arguments", ())), **options,
        )  # fmt: skip
        self.sidecars[name] = made
        for ending in ("", *(f".{index}" for index in range(workers if workers > 1 else 0))):
            file = made.socket.name + ending
            if file not in self.sidecar_wires:
                self.sidecar_wires[file] = Wire(self._wired / file, made.socket.with_name(file))
        return made

    def add_worker(
        self, name: str, *flags: str, env: Mapping[str, str] | None = None, concurrency: int = 8
    ) -> WorkerProcess:
        made = self.new_worker(name, *flags, env=env, concurrency=concurrency)
        self.workers[name] = made
        return made

    def new_worker(
        self,
        name: str,
        *flags: str,
        env: Mapping[str, str] | None = None,
        concurrency: int = 8,
        **options: Any,
    ) -> WorkerProcess:
        """A worker that the rig does not know: whoever makes it ends it."""
        settings = {
            "BRIDGE_QUEUES": "high,default,low",
            "BRIDGE_LEASE_SECONDS": str(self.lease_seconds),
            "BRIDGE_SIDECAR_URL": ",".join(self.sidecar_url(sidecar) for sidecar in self.sidecars.values()),
            "TEST_LEDGER_HOST": str(self.ledger.path),
            **(env or {}),
        }
        return WorkerProcess(
            self.directory, self.worker_redis_url, None, *flags,
            module=MODULE, concurrency=concurrency, env=settings, name=name, **options,
        )  # fmt: skip

    def sidecar_url(self, sidecar: SidecarProcess) -> str:
        """Where workers reach it: through a wire that a test can cut."""
        return f"unix://{self._wired / sidecar.socket.name}"

    def stop(self) -> None:
        for part in (*self.workers.values(), *self.sidecars.values()):
            part.process.kill()
        if self._feeder is not None:
            self._feeder.process.kill()
        for wire in (self.redis_wire, *self.sidecar_wires.values()):
            wire.close()
        super().stop()

    # -- ending things

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it to this pid; what it ran may run again."""
        gone = {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
        self.ended |= gone
        if number is signal.SIGKILL:
            self.killed_at |= dict.fromkeys(gone, time.time())
        os.kill(pid, number)

    @contextlib.contextmanager
    def frozen(self, pid: int) -> Iterator[None]:
        """It stands still meanwhile, and its lease may run out: what it ran may run again."""
        self.ended.add(pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def puma_workers(self, name: str) -> list[int]:
        return [child.pid for child in psutil.Process(self.sidecars[name].process.pid).children()]

    def pool_children(self, name: str) -> list[int]:
        """Processes of a prefork pool; the keeper is none of them."""
        return [pid for pid, is_keeper in self._children(name) if not is_keeper]

    def keeper(self, name: str) -> int:
        return next(pid for pid, is_keeper in self._children(name) if is_keeper)

    def _children(self, name: str) -> Iterator[tuple[int, bool]]:
        for child in psutil.Process(self.workers[name].pid).children():
            # A zombie is not yet gone and has no command line.
            with contextlib.suppress(psutil.NoSuchProcess):
                yield child.pid, any("keeper" in word for word in child.cmdline())

    def open_files(self, name: str) -> int:
        """Of a worker's main process."""
        return psutil.Process(self.workers[name].pid).num_fds()

    def wait_for_jobs_in_hand(self, name: str) -> None:
        identity = self.workers[name].identity
        wait_for(lambda: self.is_holding(identity), f"jobs in the hands of {name}", 30)

    def is_holding(self, identity: str) -> bool:
        """Whether this worker holds jobs: a job that runs for less than 0.25 s never enters its hash."""
        return any(identity.encode() in key for key in census.inflight(self.redis))

    def may_interrupt_ruby_jobs(self) -> None:
        """What the sidecars run may be ended by the test, and run again."""
        self.ended |= {pid for name in self.sidecars for pid in self.puma_workers(name)}

    def running_in(self, pid: int) -> list[str]:
        """jids that this process has begun and not ended, by the ledger."""
        lines = self.ledger.lines
        ended = {line["jid"] for line in lines if line["event"] in ("done", "failed")}
        begun = [line["jid"] for line in lines if line.get("pid") == pid and line["event"] == "started"]
        return [jid for jid in begun if jid not in ended]

    def is_running_in(self, pid: int) -> bool:
        return bool(self.running_in(pid))

    # -- between two tests

    def clean(self) -> None:
        """Nothing left of the test before; all that lives is as good as new."""
        self.redis.delete("retry", "schedule", *self.redis.keys("queue:*"))
        self.wait_idle(40)
        own = {b"processes", b"bridge:lease", *self.redis.smembers("processes")}
        # The watches of an idle worker go on: Redis must not forget the names of their lists.
        found = [key for key in self.redis.scan_iter(count=1000) if key not in own]
        gone = [key for key in found if not key.startswith(b"bridge:arrived:")]
        if gone:
            self.redis.delete(*gone)
        self.ledger.clear()
        self.ended.clear()
        self.killed_at.clear()
        self.pushed_path.unlink(missing_ok=True)
        self.pushed_path.touch()

    # -- feeding

    @property
    def pushed_path(self) -> Path:
        return self.directory / "pushed"

    @contextlib.contextmanager
    def feeding(self, mix: Sequence[tuple[str, list[Any]]] = MIX, rate: float = 40.0) -> Iterator[None]:
        """Real Sidekiq clients push meanwhile."""
        if self._feeder is None:
            self._feeder = RubyHelper(self.root, self.place, self.redis_url, name="feeder")
            self._feeder.evaluate(f"load {json.dumps(str(RUBY / 'feeder.rb'))}")
        code = f"JSON.parse({json.dumps(json.dumps(list(mix)))})"
        self._feeder.evaluate(
            f"($feeder = Feeder.new({json.dumps(str(self.pushed_path))})).start({code}, {rate})"
        )
        try:
            yield
        finally:
            self._feeder.evaluate("$feeder.stop")

    def push(self, job_class: str, *args: Any, **options: Any) -> str:
        """One job by the real client, written down as the feeder does."""
        jid = self.ruby.push(job_class, *args, **options)
        with self.pushed_path.open("a") as pushed:
            pushed.write(f"{jid} sure\n")
        return jid

    @property
    def done(self) -> int:
        return self.ledger.count("done")

    def wait_more_done(self, count: int, seconds: float = 40.0) -> None:
        """Wait until so many more jobs are done."""
        wanted = self.done + count
        wait_for(lambda: self.done >= wanted, f"{count} more jobs to be done", seconds)

    # -- afterwards

    def wait_quiet(self, seconds: float = 60.0) -> None:
        """Wait until nothing waits, runs or is to be retried."""
        try:
            wait_for(self._is_quiet, "everything to have ended", seconds)
        except NeverHappened as error:
            raise NeverHappened(f"{error}\n{self._state()}") from None

    def _state(self) -> str:
        """What keeps it from being quiet."""
        leases = self.redis.zrange("bridge:lease", 0, -1, withscores=True)
        living = {name: worker.identity for name, worker in self.workers.items()}
        sets = {name: self.redis.zrange(name, 0, 5) for name in ("retry", "schedule", "dead")}
        return (
            f"in flight: {census.inflight(self.redis)}\nqueues: {self.queued}\n{sets}\n"
            f"leases: {leases} at {self.redis.time()}\nworkers: {living}"
        )

    def wait_quiet_but_for_retries(self, seconds: float = 60.0) -> None:
        """Wait until nothing waits in a queue or runs."""
        self.wait_done(seconds)

    def _is_quiet(self) -> bool:
        """Looks twice: while it looks, a job may move from where it has not looked to where it has."""
        try:
            self.make_due("retry")
            before = self.counters()
            return self._is_empty() and self._is_empty() and self.counters() == before
        except redis.RedisError:
            return False

    def _is_empty(self) -> bool:
        return not (census.inflight(self.redis) or self.queued or self.redis.zcard("retry"))

    def account(self) -> Account:
        places = census.assert_each_in_one_place(self.redis)
        ended = Ended(self.ended | UNREADY, self.killed_at)
        return draw_up(Pushed.read(self.pushed_path), self.ledger.lines, places, ended)

    def assert_well(self) -> None:
        """No foreign key is left, every page of the Web UI opens, Ruby's API counts what Redis holds."""
        census.assert_keys_clean(self.redis)
        assert not census.inflight(self.redis)
        for page in PAGES:
            self.ruby.get(page).assert_fine()
        stats = self.ruby.call("stats")
        sizes = {name: self.redis.zcard(name) for name in ("retry", "schedule", "dead")}
        assert {
            name: stats[f"{name}d_size" if name == "schedule" else f"{name}_size"] for name in sizes
        } == sizes

    def assert_counted(self) -> None:
        """Each job was settled as done exactly once, however often it ran."""
        processed, failed = self.counters()
        finished = {line["jid"] for line in self.ledger.lines if line["event"] == "done"}
        assert processed - failed == len(finished), (processed, failed, len(finished))


def seconds_until(condition: Callable[[], object], what: str, seconds: float) -> float:
    """How long it took until this was true."""
    started = time.monotonic()
    wait_for(condition, what, seconds)
    return time.monotonic() - started
