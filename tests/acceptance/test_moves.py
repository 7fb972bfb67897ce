"""Moves of a class under every pool, under load with several workers, and beside processes of Sidekiq."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from tests.support import census
from tests.support.command import Bridge
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage, new_jid
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess, bridge_environment

TASKS = "tests.support.moving_tasks"
HEEDED_SECONDS = 1.0

pytestmark = pytest.mark.timeout(400)


def is_python(jid: str, percent: float) -> bool:
    return zlib.crc32(jid.encode()) < percent / 100 * 2**32


def bridge_of(stage: Stage) -> Bridge:
    return Bridge(bridge_environment(stage.redis_url, stage.sidecar.url if stage.sidecar else None))


def jobs(stage: Stage, job_class: str, count: int, queue: str = "default") -> list[str]:
    """Push so many jobs with one command; gives their jids."""
    jids = [new_jid() for _ in range(count)]
    payloads = [json.dumps({"class": job_class, "jid": jid, "args": [], "retry": True}) for jid in jids]
    stage.redis.sadd("queues", queue)
    stage.redis.lpush(f"queue:{queue}", *payloads)
    return jids


def sides(stage: Stage) -> dict[str, list[str]]:
    """Which code has run each job, in order."""
    words = {"python": "python", "done": "ruby", "failed": "ruby"}
    found: dict[str, list[str]] = {}
    for line in stage.ledger.lines:
        if line["event"] in words:
            found.setdefault(line["jid"], []).append(words[line["event"]])
    return found


@pytest.fixture(scope="module")
def shared(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """A sidecar; each test starts its workers."""
    with Stage(redis_server, ruby_root, database=3) as stage:
        stage.start_sidecar(threads=20)
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Stage:
    shared.redis.flushdb()
    shared.ledger.clear()
    return shared


def heeded(worker: WorkerProcess, sentence: str) -> None:
    wait_for(lambda: sentence in worker.log, f"the worker to say {sentence!r}", HEEDED_SECONDS)


def heeded_after(stage: Stage, worker: WorkerProcess, job_class: str, sentence: str) -> float:
    """Seconds from the change in Redis to the last line of this worker that says so."""
    heeded(worker, sentence)
    (line,) = [line for line in worker.log.splitlines() if sentence in line][-1:]
    (stamp,) = [word for word in line.split() if word.endswith("Z") and "T" in word][:1]
    changed_ms = json.loads(stage.redis.hget("bridge:moves", job_class) or b"")["changed_ms"]
    return datetime.fromisoformat(stamp).timestamp() - changed_ms / 1000


@pytest.mark.parametrize(
    "flags",
    [(), ("-E",), ("-P", "threads"), ("-P", "prefork"), ("-P", "gevent"), ("-P", "solo")],
    ids=["own pool", "events", "threads", "prefork", "gevent", "solo"],
)
def test_every_pool_heeds_the_percentage_and_keeps_retries_on_their_side(
    stage: Stage, flags: tuple[str, ...]
) -> None:
    bridge = bridge_of(stage)
    worker = stage.make_worker(*flags, module=TASKS, concurrency=4, name="moves" + "".join(flags))
    try:
        bridge("move", "EchoJob", "--percent", "50").well()
        bridge("move", "FailJob", "--percent", "50", "--no-guard").well()
        heeded(worker, "FailJob moves: 50 %")
        jids = [*jobs(stage, "EchoJob", 40), *jobs(stage, "FailJob", 20)]
        stage.wait_done()
        wait_until_equal(lambda: stage.redis.zcard("retry"), 20, "retries")
        bridge("move", "FailJob", "--percent", "99").well()
        heeded(worker, "FailJob moves: 99 %")
        stage.make_due("retry")
        wait_until_equal(lambda: sum(map(len, sides(stage).values())), 80, "the second attempts")
        expected = {jid: "python" if is_python(jid, 50) else "ruby" for jid in jids}
        assert {jid: set(found) for jid, found in sides(stage).items()} == {
            j: {s} for j, s in expected.items()
        }
        wait_until_equal(lambda: stage.redis.zcard("retry"), 20, "retries again")
    finally:
        worker.stop()


@pytest.mark.parametrize(
    "flags", [(), ("-E",), ("-P", "threads"), ("-P", "prefork"), ("-P", "gevent")], ids=str
)
def test_every_pool_compares_a_ruby_run_with_its_shadow(
    redis_server: RedisServer, ruby_root: RubyRoot, flags: tuple[str, ...]
) -> None:
    with Stage(redis_server, ruby_root, database=3) as stage:
        stage.start_sidecar(require=ROOT / "tests/support/ruby/moving_jobs.rb", threads=5)
        worker = stage.start_worker(*flags, module=TASKS, concurrency=2, name="shadow" + "".join(flags))
        bridge = bridge_of(stage)
        bridge("move", "ShadowJob", "--shadow", "100").well()
        heeded(worker, "ShadowJob moves: 0 %")
        same, lost, raised = (
            stage.push_job({"class": "ShadowJob", "jid": new_jid(), "args": args})
            for args in (["a", 1], ["odd", "b"], ["raise", "c"])
        )
        wait_until_equal(lambda: bridge("moves", "--json").well().json[0]["shadow_runs"], 3, "the dry runs")
        found = {each["jid"]: each["what"] for each in bridge("moves", "ShadowJob", "--json").well().json}
        assert found == {lost: "return value", raised: "outcome"}
        assert [sides(stage)[jid] for jid in (same, lost, raised)] == [["ruby"]] * 3
        stage.wait_counters(3, 0)


@pytest.mark.parametrize("flags", [(), ("-P", "prefork"), ("-P", "gevent")], ids=str)
def test_a_shadow_that_holds_the_interpreter_ends_with_a_worker_that_is_killed(
    redis_server: RedisServer, ruby_root: RubyRoot, flags: tuple[str, ...]
) -> None:
    """A thread of its process reads the end of the worker. A slow pattern kept that thread from its turn."""
    with Stage(redis_server, ruby_root, database=3) as stage:
        stage.start_sidecar(require=ROOT / "tests/support/ruby/moving_jobs.rb", threads=5)
        worker = stage.start_worker(*flags, module=TASKS, concurrency=2, name="killed" + "".join(flags))
        bridge_of(stage)("move", "ShadowJob", "--shadow", "100").well()
        heeded(worker, "ShadowJob moves: 0 %")
        stage.push_job({"class": "ShadowJob", "jid": new_jid(), "args": ["stuck"]})
        wait_for(lambda: is_computing(shadows_process(worker.pid)), "the shadow", 30)
        its_pid = shadows_process(worker.pid)
        assert its_pid is not None
        shadow = psutil.Process(its_pid)
        try:
            worker.process.kill()
            wait_until_equal(lambda: is_computing(shadow.pid), False, "the end of the shadow")
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):  # its pid may be another's by now
                shadow.kill()


def shadows_process(worker: int) -> int | None:
    """The process that this worker has started for its shadows."""
    for children in Path(f"/proc/{worker}/task").glob("*/children"):
        for pid in children.read_text().split():
            if b"shadow_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return None


def is_computing(pid: int | None) -> bool:
    """Whether the process has its last priority, which its tasks run at, and computes."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0] == "R" and fields[16] == "19"
    return False


def test_a_percentage_that_changes_under_load_loses_and_doubles_no_job(stage: Stage) -> None:
    """Three workers run jobs of a class while its percentage goes up and down."""
    bridge = bridge_of(stage)
    workers = [stage.make_worker(module=TASKS, concurrency=5, name=f"moving-{n}") for n in range(3)]
    pushed: list[str] = []
    stop = threading.Event()

    def push() -> None:
        while not stop.is_set():
            pushed.extend(jobs(stage, "EchoJob", 50))
            time.sleep(0.05)

    pushing = threading.Thread(target=push)
    try:
        bridge("move", "EchoJob", "--back").well()
        for worker in workers:
            heeded(worker, "EchoJob is back in Ruby")
        pushing.start()
        slowest = 0.0
        for percent in (0.5, 2, 5, 20, 100, 50, 0, 35):
            bridge("move", "EchoJob", "--percent", str(percent)).well()
            for worker in workers:
                after = heeded_after(stage, worker, "EchoJob", f"EchoJob moves: {percent:g} %")
                slowest = max(slowest, after)
            time.sleep(0.3)
        assert slowest < HEEDED_SECONDS
        stop.set()
        pushing.join()
        last = jobs(stage, "EchoJob", 300)
        stage.wait_done(60)

        found = sides(stage)
        assert Counter(map(len, found.values())) == {1: len(pushed) + 300}
        assert found.keys() == {*pushed, *last}
        assert {jid: found[jid] for jid in last} == {
            jid: ["python" if is_python(jid, 35) else "ruby"] for jid in last
        }
        census.assert_each_in_one_place(stage.redis)
        census.assert_keys_clean(stage.redis)
    finally:
        stop.set()
        for worker in workers:
            worker.stop()


def test_a_task_inside_rubys_middleware_moves_and_its_retries_stay(
    redis_server: RedisServer, ruby_root: RubyRoot
) -> None:
    """Given ruby_middleware=True, Ruby decides about a failure, and the side of the code stays."""
    with Stage(redis_server, ruby_root, database=3) as stage:
        stage.start_sidecar(require=ROOT / "tests/support/ruby/moving_jobs.rb", threads=5)
        worker = stage.start_worker(module=TASKS, concurrency=4, name="inside")
        bridge = bridge_of(stage)
        bridge("move", "InsideJob", "--percent", "50", "--no-guard").well()
        heeded(worker, "InsideJob moves: 50 %")
        jids = jobs(stage, "InsideJob", 20)
        stage.wait_done()
        wait_until_equal(lambda: stage.redis.zcard("retry"), 20, "retries")
        bridge("move", "InsideJob", "--percent", "100").well()
        heeded(worker, "InsideJob moves: 100 %")
        stage.make_due("retry")
        wait_until_equal(lambda: sum(map(len, sides(stage).values())), 40, "the second attempts")
        expected = {jid: ["python" if is_python(jid, 50) else "ruby"] * 2 for jid in jids}
        assert sides(stage) == expected
        wait_until_equal(lambda: stage.redis.zcard("retry"), 20, "retries again")
        found = [json.loads(raw) for raw in stage.redis.zrange("retry", 0, -1)]
        assert {each["jid"]: [each["bridge_side"]] * 2 for each in found} == expected
        assert {each["retry_count"] for each in found} == {1}


def test_the_guard_is_silent_over_20_000_jobs_that_are_well(stage: Stage) -> None:
    """All workers are well: the class stays at its percentage. Every job runs once."""
    bridge = bridge_of(stage)
    worker = stage.make_worker(module=TASKS, concurrency=20, name="well")
    try:
        bridge("move", "EchoJob", "--percent", "50").well()
        heeded(worker, "EchoJob moves: 50 %")
        for _ in range(20):
            jobs(stage, "EchoJob", 1000)
        stage.wait_done(200)
        wait_until_equal(
            lambda: sum(
                bridge("moves", "--json").well().json[0][side]["runs"] for side in ("python", "ruby")
            ),
            20_000,
            "all counts",
        )
        row = bridge("moves", "--json").well().json[0]
        assert (row["percent"], row["is_back"], row["reason"]) == (50, False, "")
        assert 9_600 <= row["python"]["runs"] <= 10_400
        assert Counter(map(len, sides(stage).values())) == {1: 20_000}
    finally:
        worker.stop()


def test_a_worker_without_a_sidecar_takes_exactly_pythons_share(stage: Stage) -> None:
    bridge = bridge_of(stage)
    worker = WorkerProcess(
        stage.directory,
        stage.redis_url,
        f"unix://{stage.directory}/nowhere.sock",
        module=TASKS,
        env={"BRIDGE_QUEUES": "default,low", "TEST_LEDGER_HOST": str(stage.ledger.path)},
        name="native-only",
    )
    try:
        bridge("move", "EchoJob", "--percent", "20").well()
        heeded(worker, "EchoJob moves: 20 %")
        jids = [new_jid() for _ in range(60)]
        for jid in jids:  # each in a queue of its own kind: a Ruby job at the end keeps the others back
            queue = "low" if is_python(jid, 20) else "default"
            stage.push_job({"class": "EchoJob", "jid": jid, "args": []}, queue)
        natives = {jid for jid in jids if is_python(jid, 20)}
        wait_until_equal(lambda: set(sides(stage)), natives, "Python's share")
        holds_for(lambda: set(sides(stage)) == natives, 1.0, "Ruby's share stays in its queue")
        assert stage.redis.llen("queue:default") == 60 - len(natives)

        rubys = next(jid for jid in jids if not is_python(jid, 20))
        stage.redis.delete("queue:default")
        stage.push_job({"class": "EchoJob", "jid": rubys, "args": []})
        bridge("move", "EchoJob", "--percent", "100").well()
        wait_until_equal(lambda: sides(stage).get(rubys), ["python"], "the job of a higher percentage")
    finally:
        worker.stop()


def test_processes_of_sidekiq_run_in_ruby_what_they_take_and_their_share_is_shown(
    stage: Stage, ruby_root: RubyRoot
) -> None:
    """Given a Sidekiq process on the same queue, they share the class, and no job runs twice."""
    bridge = bridge_of(stage)
    worker = stage.make_worker(module=TASKS, concurrency=2, name="beside")
    stock = StockSidekiq(ruby_root, stage.place, stage.redis_url, "-c", "2", "-q", "default")
    try:
        bridge("move", "FailJob", "--percent", "50", "--no-guard").well()
        heeded(worker, "FailJob moves: 50 %")
        jids = jobs(stage, "FailJob", 300)
        stage.wait_done()
        wait_until_equal(lambda: stage.redis.zcard("retry"), 300, "retries")
        found = sides(stage)
        assert Counter(map(len, found.values())) == {1: 300}
        assert found.keys() == set(jids)

        row = bridge("moves", "--json").well().json[0]
        assert row["python"]["runs"] + row["ruby"]["runs"] < 300
        assert row["python"]["retries"] + row["ruby"]["retries"] == 300

        # A Sidekiq process may take a retry of Python's. No retry of Ruby's goes to Python.
        stage.make_due("retry")
        wait_until_equal(lambda: sum(map(len, sides(stage).values())), 600, "the second attempts", 60)
        assert ["ruby", "python"] not in sides(stage).values()
    finally:
        stock.stop()
        worker.stop()


@pytest.mark.parametrize("change", [("--percent", "100", "--no-guard"), ("--finish",)], ids=str)
def test_an_orphaned_ruby_run_that_goes_on_is_not_run_in_python_after_a_change(
    stage: Stage, change: tuple[str, ...]
) -> None:
    """A sidecar ran the job of a worker that died, and the percentage rose: Python ran the job beside it.

    The end of the move did the same.
    """
    bridge, gate = bridge_of(stage), f"orphan{change[0]}"
    dead = stage.make_worker(module=TASKS, concurrency=2, name=f"dead{change[0]}")
    worker = None
    try:
        bridge("move", "GateJob", "--back").well()
        heeded(dead, "GateJob is back in Ruby")
        jid = stage.push_job({"class": "GateJob", "args": [gate], "retry": True})
        stage.ledger.wait_for("started", jid)
        bridge("move", "GateJob", *change).well()
        dead.process.kill()

        worker = stage.make_worker(module=TASKS, concurrency=2, name=f"heir{change[0]}")
        wait_for(lambda: stage.redis.exists(f"bridge:recovered:{jid}"), "the recovery", 30)
        wait_until_equal(lambda: stage.queued, {}, "the heir to take it")
        holds_for(lambda: "python" not in stage.ledger.events(jid), 1.0, "no second run")
        stage.ledger.open_gate(gate)
        stage.wait_done()
        assert stage.ledger.events(jid) == ["started", "done"]
        stage.wait_counters(1, 0)
    finally:
        stage.ledger.open_gate(gate)
        dead.stop()
        if worker is not None:
            worker.stop()
