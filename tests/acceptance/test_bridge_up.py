"""`bridge up`: one command for a sidecar and several workers, with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import Signals
from typing import Any

import psutil
import pytest

from scripts.demo.probes import unix_http_status
from tests.support.bridge_up import BridgeUp
from tests.support.processes import free_port
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for

Start = Callable[..., BridgeUp]


@pytest.fixture
def start(bare_stage: Stage) -> Iterator[Start]:
    """Starts `bridge up` on an empty Redis, and ends it after the test."""
    started: list[BridgeUp] = []

    def make(*options: str, **more: Any) -> BridgeUp:
        started.append(BridgeUp(bare_stage, *options, **more))
        return started[-1]

    yield make
    for each in started:
        each.stop()


needs_system_ruby = pytest.mark.skipif(
    "TEST_RUBY_ROOT" in os.environ, reason="bridge up starts the sidecar of this system"
)


@needs_system_ruby
def test_commands_by_hand_find_the_newest_sidecar_in_its_directory(start: Start) -> None:
    """The demo uses it. The private socket has another name after each rolling restart."""
    sockets = Path(tempfile.mkdtemp(prefix="up-", dir="/tmp"))
    try:
        # Given a sidecar with its sockets in a directory of ours
        up = start("--sockets", str(sockets), sidecar=True, workers=1).wait_ready()
        link = sockets / "sidecar.sock"
        assert link.resolve().name == "s1.sock"
        assert unix_http_status(link, "/health/ready") == 200
        # When all processes are replaced
        up.signal(Signals.SIGUSR2)
        up.wait_log("rolling restart finished", 90)
        # Then the same path leads to the new one, and a stop leaves nothing behind
        assert link.resolve().name == "s2.sock"
        assert unix_http_status(link, "/health/ready") == 200
        assert up.terminate(90) == 0
        assert list(sockets.iterdir()) == []
    finally:
        shutil.rmtree(sockets)


@needs_system_ruby
def test_one_command_starts_a_sidecar_and_workers(bare_stage: Stage, start: Start) -> None:
    # Given two workers and a sidecar, with probes at a port of their own
    port = free_port(2)
    up = start(sidecar=True, env={"BRIDGE_HEALTH_BIND": f"127.0.0.1:{port}"}).wait_ready()
    pids = up.wait_for_workers()
    # When jobs of both languages are pushed
    native = bare_stage.push_job({"class": "NativeEchoJob", "args": [1], "retry": True})
    ruby = bare_stage.push_job({"class": "EchoJob", "args": [2], "retry": True})
    # Then they run, and the log tells which process wrote a line
    bare_stage.ledger.wait_for("done", native)
    bare_stage.ledger.wait_for("done", ruby)
    assert pids == up.pids()
    for name in ("worker.1 | ", "worker.2 | ", "sidecar | ", "up | "):
        assert name in up.log
    # And each worker has its own port, in the order of the workers
    for number in (0, 1):
        with urllib.request.urlopen(f"http://127.0.0.1:{port + number}/health/ready", timeout=5) as reply:
            assert reply.status == 200
    # When it gets TERM, then all of them end in order
    assert up.terminate() == 0
    assert up.rows() == []
    ends = [up.log.index(f"{name} (pid") for name in ("worker.1", "worker.2")]
    assert up.log.rindex("sidecar (pid") > max(ends)


def test_a_killed_worker_is_replaced_and_its_job_runs_elsewhere(bare_stage: Stage, start: Start) -> None:
    # Given a job that runs in one of two workers
    up = start(env={"BRIDGE_LEASE_SECONDS": "3"}).wait_ready()
    before = up.wait_for_workers()
    jid = bare_stage.push_job({"class": "NativeGateJob", "args": ["g"], "retry": True})
    bare_stage.ledger.wait_for("started", jid)
    victim = next(line["pid"] for line in bare_stage.ledger.lines if line["jid"] == jid)
    # When the kernel kills that worker
    os.kill(victim, Signals.SIGKILL)
    # Then another process runs the job, and a new worker has the place
    bare_stage.ledger.wait_for("started", jid, times=2, seconds=30)
    bare_stage.ledger.open_gate("g")
    bare_stage.ledger.wait_for("done", jid)
    after = wait_for(lambda: (now := up.pids()) and len(now) == 2 and now, "two workers")
    assert victim in before
    assert victim not in after
    assert "was killed by SIGKILL: started again" in up.log


def test_wrong_settings_end_everything_with_the_workers_own_sentence(start: Start) -> None:
    # Given a setting that a worker refuses at its start
    up = start(env={"BRIDGE_RUBY_MIDDLEWARE": "NoSuchJob"})
    # Then nothing is started again, and the status is the worker's
    assert up.process.wait(40) == 78
    last = next(line for line in up.log.splitlines() if "Another start would not help" in line)
    assert "ended with status 78: bridge: BRIDGE_RUBY_MIDDLEWARE names NoSuchJob" in last


def test_wrong_options_of_celery_end_everything(start: Start) -> None:
    up = start(celery=("--no-such-option",))
    assert up.process.wait(40) == 2
    assert "No such option" in up.log


@pytest.mark.parametrize(
    ("options", "more", "sentence"),
    [
        (("--puma", "2"), {}, "--puma goes with --sidecar"),
        ((), {"env": {"BRIDGE_LOG_FILE_MEGABYTES": "5"}}, "use logrotate"),
        ((), {"sidecar": True, "env": {"BRIDGE_SIDECAR_BIND": "unix:///x"}}, "remove BRIDGE_SIDECAR_BIND"),
        (("--sockets", "/nowhere"), {"sidecar": True}, "--sockets /nowhere: create this directory"),
        (("--sidecar", "/nowhere"), {}, "/nowhere: the path does not exist"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(
    start: Start, options: tuple[str, ...], more: dict[str, Any], sentence: str
) -> None:
    up = start(*options, **more)
    assert up.process.wait(20) == 78
    assert sentence in up.log
    assert "Traceback" not in up.log


def test_term_gives_back_what_does_not_end_in_time(bare_stage: Stage, start: Start) -> None:
    # Given a job that waits
    up = start().wait_ready()
    jid = bare_stage.push_job({"class": "NativeGateJob", "args": ["g"], "retry": True})
    bare_stage.ledger.wait_for("started", jid)
    # When everything ends
    assert up.terminate() == 0
    # Then the job is in its queue again
    assert bare_stage.queued == {"queue:default": 1}


def test_a_second_term_ends_quickly(bare_stage: Stage, start: Start) -> None:
    # Given a job with a minute to end after TERM
    up = start(env={"BRIDGE_SHUTDOWN_TIMEOUT_SECONDS": "60"}).wait_ready()
    jid = bare_stage.push_job({"class": "NativeGateJob", "args": ["g"], "retry": True})
    bare_stage.ledger.wait_for("started", jid)
    up.signal(Signals.SIGTERM)
    up.wait_log("received SIGTERM")
    # When a second TERM arrives, then the job is given back at once
    up.signal(Signals.SIGTERM)
    assert up.process.wait(20) == 0
    assert bare_stage.queued == {"queue:default": 1}


class Stream:
    """Pushes jobs of both languages without a pause."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._stop = threading.Event()
        self.jids: list[str] = []
        self._thread = threading.Thread(target=self._push, daemon=True)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _push(self) -> None:
        while not self._stop.wait(0.01):
            for job_class, args in (("NativeEchoJob", []), ("EchoJob", []), ("NativeSleepJob", [0.05])):
                self.jids.append(self._stage.push_job({"class": job_class, "args": args, "retry": True}))


@needs_system_ruby
def test_usr2_replaces_every_process_and_each_job_runs_once(bare_stage: Stage, start: Start) -> None:
    # Given a steady stream of jobs
    up = start(sidecar=True, env={"BRIDGE_SHUTDOWN_TIMEOUT_SECONDS": "10"}).wait_ready()
    before = {*up.pids(), *up.pids("sidecar")}
    with Stream(bare_stage) as stream:
        wait_for(lambda: len(stream.jids) > 50, "jobs in the stream")
        # When all processes are replaced
        up.signal(Signals.SIGUSR2)
        up.wait_log("rolling restart finished", 90)
        count = len(stream.jids)
        wait_for(lambda: len(stream.jids) > count + 50, "jobs after the restart")
    bare_stage.wait_done(60)
    # Then every process is a new one, and each job ran exactly once
    assert not before & {*up.pids(), *up.pids("sidecar")}
    assert len(up.pids()) == 2
    assert len(up.pids("sidecar")) == 1
    runs = Counter(line["jid"] for line in bare_stage.ledger.lines if line["event"] == "done")
    assert {jid: runs[jid] for jid in stream.jids if runs[jid] != 1} == {}
    assert bare_stage.counters() == (len(stream.jids), 0)


def test_a_rolling_restart_stops_at_the_first_process_that_does_not_start(
    bare_stage: Stage, start: Start, tmp_path: Path
) -> None:
    # Given two workers, and a settings file that is wrong by now
    config = tmp_path / "bridge.yml"
    config.write_text("queues: default\n")
    up = start(env={"BRIDGE_CONFIG": str(config)}).wait_ready()
    before = up.wait_for_workers()
    config.write_text("queues: [\n")
    # When all are to be replaced
    up.signal(Signals.SIGUSR2)
    up.wait_log("rolling restart given up: the new worker.1 .*78.*bridge.yml")
    # Then the old ones still run jobs
    assert up.pids() == before
    jid = bare_stage.push_job({"class": "NativeEchoJob", "args": [], "retry": True})
    bare_stage.ledger.wait_for("done", jid)


def test_tstp_makes_all_workers_quiet_and_ttin_shows_their_stacks(bare_stage: Stage, start: Start) -> None:
    # Given two workers that are told to be quiet
    up = start().wait_ready()
    up.wait_for_workers()
    up.signal(Signals.SIGTSTP)
    wait_for(lambda: [row["quiet"] for row in up.rows()] == [True, True], "two quiet workers")
    # Then a job stays in its queue, even if a worker dies
    bare_stage.push_job({"class": "NativeEchoJob", "args": [], "retry": True})
    os.kill(up.pids()[0], Signals.SIGKILL)
    up.wait_log("a quiet worker is not started again")
    holds_for(lambda: bare_stage.queued == {"queue:default": 1}, 2, "the job in its queue")
    # And the living worker writes its stacks
    up.signal(Signals.SIGTTIN)
    up.wait_log(r'worker\.\d \|.*File ".*threading\.py", line')


def test_a_worker_above_its_memory_limit_is_started_again(bare_stage: Stage, start: Start) -> None:
    # Given one worker with a limit
    up = start(workers=1, env={"BRIDGE_MAX_MEMORY_MEGABYTES": "250"}).wait_ready()
    (first,) = up.wait_for_workers()
    # When a job keeps 300 MB
    bare_stage.push_job({"class": "NativeHoardJob", "args": [300], "retry": True})
    # Then the worker ends by itself, and another takes its place
    up.wait_for_workers(lambda pids: first not in pids)
    assert f"worker.1 (pid {first}) ended with status 0: started again" in up.log


@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of pids needs root")
def test_as_pid_1_it_reaps_what_other_processes_leave_behind(start: Start) -> None:
    # Given `bridge up` as the first process of a container
    up = start(workers=1, wrapper=("unshare", "--pid", "--fork", "--mount-proc")).wait_ready()
    init = up.supervisor
    # When a process there ends before its child
    enter = ("nsenter", "-t", str(init.pid), "-p", "-m")
    subprocess.run([*enter, "sh", "-c", "(sh -c 'sleep 0.3; exit 3' &) ; exit 0"], check=True, timeout=20)
    wait_for(lambda: _orphans(init), "the orphan below pid 1")
    # Then the child does not stay as a zombie
    wait_for(lambda: not _orphans(init), "the orphan to be reaped")
    # And TERM ends everything, though pid 1 has no default actions
    assert up.terminate() == 0


def _orphans(init: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in init.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() in ("sh", "sleep"):
                found.append(child)
    return found


def test_when_it_is_killed_outright_its_workers_end_in_order(bare_stage: Stage, start: Start) -> None:
    # Given two workers
    up = start().wait_ready()
    workers = [psutil.Process(pid) for pid in up.wait_for_workers()]
    # When `bridge up` itself is killed
    up.process.signal(Signals.SIGKILL)
    # Then the kernel tells its workers, which sign off
    _, alive = psutil.wait_procs(workers, 20)
    assert alive == []
    assert up.rows() == []


def test_it_reports_to_systemd_when_all_workers_take_jobs(start: Start, tmp_path: Path) -> None:
    import socket

    # Given a service manager that listens
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(0.1)
        up = start(env={"NOTIFY_SOCKET": str(tmp_path / "n")})
        said: list[str] = []

        def hear(line: str) -> bool:
            with contextlib.suppress(TimeoutError):
                said.extend(manager.recv(4096).decode().split("\n"))
            return line in said

        # Then it hears of the start, of each second, and of the end
        wait_for(lambda: hear("READY=1"), "READY", 40)
        wait_for(lambda: hear("WATCHDOG=1"), "WATCHDOG")
        assert "STATUS=2 of 2 workers ready" in said or wait_for(
            lambda: hear("STATUS=2 of 2 workers ready"), "STATUS"
        )
        up.signal(Signals.SIGTERM)
        wait_for(lambda: hear("STOPPING=1"), "STOPPING")
        assert up.process.wait(30) == 0


def test_json_lines_stay_json(start: Start) -> None:
    # Given a log that is not a terminal
    up = start(workers=1, env={"BRIDGE_LOG_FORMAT": "json"})
    wait_for(lambda: '"msg": "ready: ' in up.log, "ready", 40)
    # Then each line of the worker names its process in a field
    lines = [json.loads(line) for line in up.log.splitlines() if line.startswith("{")]
    assert {line["process"] for line in lines} == {"up", "worker.1"}
    assert time.strptime(lines[-1]["ts"][:19], "%Y-%m-%dT%H:%M:%S")
