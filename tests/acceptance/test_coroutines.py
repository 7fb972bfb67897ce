"""Tasks that are coroutines (`async def`) run on one event loop per worker, under every pool but gevent."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_commands import celery
from tests.support import census
from tests.support.probes import health
from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import CELERY, WorkerProcess, bridge_environment

MODULE = "tests.support.coroutine_tasks"
#: An unobserved job takes the fast path, and no thread waits for its coroutine; log lines observe it.
POOLS = {
    "unobserved": (),
    "observed": (),
    "threads": ("-P", "threads"),
    "prefork": ("-P", "prefork"),
    "solo": ("-P", "solo"),
}
SLOTS = 4
ALIKE = [
    "CoroEchoJob",
    "CoroClassJob",
    "CoroDecoratedJob",
    "CoroLambdaJob",
    "CoroPartialJob",
    "CoroModelJob",
    "CoroRunJob",
]


class Pooled:
    """A worker of one pool on a queue of its own."""

    def __init__(self, stage: Stage, pool: str, label: str = "coro", **env: str) -> None:
        self.stage, self.pool = stage, pool
        self.worker: WorkerProcess = stage.make_worker(
            "-Q",
            "coro",
            "-n",
            "coro@%h",
            *POOLS[pool],
            module=MODULE,
            concurrency=SLOTS,
            name=f"{label}-{pool}",
            env={**env, **({"TEST_UNOBSERVED": "1"} if pool == "unobserved" else {})},
        )

    def push(self, name: str, *args: Any, **options: Any) -> str:
        return self.stage.push_job(
            {"class": name, "args": args, "queue": "coro", "retry": True, **options}, "coro"
        )

    def entries(self, name: str, count: int) -> dict[str, dict[str, Any]]:
        """The payloads of ``retry`` or ``dead`` by their jid, once there are so many."""
        wait_until_equal(lambda: self.stage.redis.zcard(name), count, f"entries in {name}", 30)
        found = [json.loads(entry) for entry in self.stage.redis.zrange(name, 0, -1)]
        return {entry["jid"]: entry for entry in found}


@pytest.fixture(params=POOLS)
def pooled(request: pytest.FixtureRequest, shared_stage: Stage) -> Iterator[Pooled]:
    """A worker of each pool; what does not end it shares it."""
    shared_stage.reset()
    made = Pooled(shared_stage, request.param)
    yield made
    made.worker.stop()


def test_the_body_of_a_coroutine_runs_and_ends_as_any_other_task(pooled: Pooled) -> None:
    """The coroutine was never awaited, and the job was counted as done."""
    stage = pooled.stage

    # Given coroutines in every form, each runs
    for name in ALIKE:
        jid = pooled.push(name, 7)
        stage.ledger.wait_for("done", jid)
        assert stage.ledger.args(jid) == [7]
    stage.wait_counters(len(ALIKE), 0)

    # and those that fail wait in `retry` with their own class, message and place
    failing = {
        pooled.push("CoroFailJob", "sorry", backtrace=True): ("Unlucky", "sorry"),
        pooled.push("CoroFailReturnedJob", backtrace=True): ("Unlucky", "returned"),
        pooled.push("CoroRetryJob", "retry", backtrace=True): ("Unlucky", "again"),
        pooled.push("GeneratorReturnedJob", backtrace=True): ("TypeError", "returned a generator"),
        pooled.push("CoroRetryJob", "exit"): ("SystemExit", "3"),
        pooled.push("CoroRetryJob", "exit in a child"): ("SystemExit", "4"),
        pooled.push("CoroRetryJob", "cancels itself"): ("CancelledError", ""),
    }
    entries = pooled.entries("retry", len(failing))
    for jid, (kind, message) in failing.items():
        entry = entries[jid]
        assert entry["error_class"].endswith(kind), entry
        assert message in entry["error_message"], entry
        assert entry["retry_count"] == 0
    stage.wait_counters(len(ALIKE) + len(failing), len(failing))
    assert not stage.ledger.count("never")

    # and one without attempts is dead, one that is rejected or ignored is gone
    dead = pooled.push("CoroFailJob", "at once", retry=0)
    assert list(pooled.entries("dead", 1)) == [dead]
    for how in ("reject", "ignore"):
        stage.ledger.wait_for("ran", pooled.push("CoroRetryJob", how))
    stage.wait_idle()
    assert stage.redis.zcard("retry") == len(failing)

    # and the loop still runs after all of that
    stage.ledger.wait_for("done", pooled.push("CoroEchoJob"))
    census.assert_each_in_one_place(stage.redis)


def test_each_coroutine_has_its_own_context_task_and_request(pooled: Pooled) -> None:
    stage = pooled.stage
    names = [f"name-{number}" for number in range(SLOTS)]

    jids = {pooled.push("CoroContextJob", name): name for name in names}

    for jid, name in jids.items():
        stage.ledger.wait_for("done", jid)
        (request, current, kind), children, thread = stage.ledger.args(jid)
        assert (request, current, kind) == (jid, jid, name)
        assert children == [jid, jid]
        assert thread == "bridge-coroutines"
        # and its log lines name the job, and hide its arguments
        for word in ("says ***", "said ***"):
            assert re.search(f"jid={jid} .*{re.escape(word)}", pooled.worker.log)


def test_as_many_coroutines_run_at_once_as_there_are_slots(pooled: Pooled) -> None:
    stage = pooled.stage
    if pooled.pool == "solo":
        pytest.skip("the solo pool runs one job at a time")
    jids = [pooled.push("CoroGateJob", "slots") for _ in range(SLOTS + 1)]
    wait_until_equal(lambda: stage.ledger.count("started"), SLOTS, "coroutines at once")

    # An unobserved one holds no thread
    if pooled.pool == "unobserved":
        answers = json.loads(celery(stage, "inspect", "stats", "--json").stdout)
        (stats,) = [found for name, found in answers.items() if name.startswith("coro@")]
        assert (stats["pool"]["coroutines"], stats["pool"]["threads"]) == (SLOTS, 0)

    assert stage.redis.llen("queue:coro") == 1
    stage.ledger.open_gate("slots")
    for jid in jids:
        stage.ledger.wait_for("done", jid)


def test_a_task_that_a_coroutine_leaves_behind_is_cancelled_at_the_end(pooled: Pooled) -> None:
    stage = pooled.stage
    jid = pooled.push("CoroBackgroundJob")
    stage.ledger.wait_for("done", jid)
    stage.wait_idle()
    assert not stage.ledger.count("ended behind")

    assert pooled.worker.terminate() == 0

    assert [line["args"] for line in stage.ledger.lines if line["event"] == "ended behind"] == [[jid]]


def test_a_coroutine_that_blocks_the_loop_is_named_in_the_log(pooled: Pooled) -> None:
    jid = pooled.push("CoroBlockJob", 2.5)

    pooled.stage.ledger.wait_for("done", jid)

    said = f"jid={jid} class=CoroBlockJob blocks the event loop at "
    wait_for(lambda: said in pooled.worker.log, "the warning")
    assert "coroutine_tasks.py" in pooled.worker.log


def test_time_limits_reach_a_coroutine(pooled: Pooled) -> None:
    stage = pooled.stage

    # Given coroutines that await far beyond their soft limit
    tidy, group, lazy = (
        pooled.push("CoroSoftJob", how, soft_time_limit=0.5) for how in ("tidy", "group", "raise")
    )
    # Then each sees the exception where it awaits: it may tidy up and be done
    for jid in (tidy, group):
        stage.ledger.wait_for("tidied", jid)
    stage.ledger.wait_for("child ended", group)
    # or fail
    assert pooled.entries("retry", 1)[lazy]["error_class"].endswith("SoftTimeLimitExceeded")
    stage.wait_counters(3, 1)

    # and a hard limit ends one as a failure
    hard = pooled.push("CoroSleepJob", 300, time_limit=0.5)
    entry = pooled.entries("retry", 2)[hard]
    assert entry["error_class"] == "Bridge::DeadlineExceeded"
    assert "time limit of 0.5 s" in entry["error_message"]
    if pooled.pool != "prefork":  # Celery kills the process of that one
        stage.ledger.wait_for("cancelled", hard)
    stage.ledger.wait_for("done", pooled.push("CoroEchoJob"))


def test_a_coroutine_that_blocks_beyond_its_time_limit_costs_its_slot(shared_stage: Stage) -> None:
    """No cancellation reaches it: the event loop would have to throw it in."""
    stage = shared_stage
    stage.reset()
    pooled = Pooled(stage, "unobserved", "blocked")
    try:
        jid = pooled.push("CoroBlockJob", 14, time_limit=1)
        stage.ledger.wait_for("started", jid)

        wait_until_equal(lambda: health(pooled.worker)["slots"].get("lost"), 1, "a lost slot", 20)
        # Others wait for the loop, and plain tasks go on
        waiting = pooled.push("CoroEchoJob")
        stage.ledger.wait_for("done", pooled.push("NativeEchoJob"))
        assert not stage.ledger.events(waiting)

        stage.ledger.wait_for("done", jid)
        stage.ledger.wait_for("done", waiting)
        stage.wait_idle()
    finally:
        pooled.worker.stop()


def bridge_command(stage: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CELERY.with_name("python"), "-m", "bridge", *words],
        env=clean_environment() | bridge_environment(stage.redis_url, None),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_revoke_cancels_a_coroutine_for_good(pooled: Pooled) -> None:
    if pooled.pool == "solo":
        pytest.skip("the solo pool answers no command while it runs a job")
    stage = pooled.stage
    for name in ("CoroSleepJob", "CoroStubbornJob"):
        jid = pooled.push(name, *([300] if name == "CoroSleepJob" else []))
        stage.ledger.wait_for("started", jid)

        if name == "CoroSleepJob":
            celery(stage, "control", "revoke", jid)
        else:
            answer = bridge_command(stage, "jobs", "cancel", "--yes", jid)
            assert answer.returncode == 0, answer.stdout + answer.stderr

        stage.wait_idle(20)
    if pooled.pool != "prefork":  # there the process is killed
        assert stage.ledger.count("cancelled") == stage.ledger.count("swallowed") == 1
    assert not stage.redis.exists("retry", "dead", "queue:coro")
    stage.wait_counters(2, 2)


def test_term_waits_for_coroutines_then_gives_them_back(pooled: Pooled) -> None:
    stage = pooled.stage

    # Given one that ends in time, and some that do not
    if pooled.pool != "solo":
        short = pooled.push("CoroSleepJob", 1)
        stage.ledger.wait_for("started", short)
    stubborn = "CoroStubbornJob"
    long = {pooled.push("CoroSleepJob", 300), *([] if pooled.pool == "solo" else [pooled.push(stubborn)])}
    for jid in long:
        stage.ledger.wait_for("started", jid)

    # When the worker is told to end
    assert pooled.worker.terminate() == 0

    # Then the first is done, and the others wait in their queue: no failure, no attempt spent
    left = {json.loads(payload)["jid"] for payload in stage.redis.lrange("queue:coro", 0, -1)}
    assert left == long
    if pooled.pool != "solo":
        stage.ledger.wait_for("done", short)
    assert stage.counters() == ((0 if pooled.pool == "solo" else 1), 0)
    assert not stage.redis.exists("retry", "dead")
    assert not census.inflight(stage.redis)
    if pooled.pool != "prefork":  # there the processes are killed
        assert stage.ledger.count("cancelled") == 1


def test_quit_gives_a_coroutine_back_at_once(pooled: Pooled) -> None:
    stage = pooled.stage
    jid = pooled.push("CoroSleepJob", 300)
    stage.ledger.wait_for("started", jid)

    pooled.worker.process.signal(signal.SIGQUIT)
    pooled.worker.process.wait(20)

    wait_for(lambda: stage.redis.llen("queue:coro") == 1, "the job to be back")
    assert stage.counters() == (0, 0)
    assert not stage.redis.exists("retry", "dead")


@pytest.mark.parametrize("pool", ["observed", "threads"])
def test_signals_and_hooks_of_coroutines_are_celerys(shared_stage: Stage, pool: str) -> None:
    stage = shared_stage
    stage.reset()
    pooled = Pooled(stage, pool, "signals", TEST_SIGNALS="1")
    try:
        # Given receivers of Celery's signals, a coroutine finds the context that they have set
        done = pooled.push("CoroKindJob")
        stage.ledger.wait_for("task_postrun", done)
        assert stage.ledger.events(done) == ["task_prerun", "kind", "task_success", "task_postrun"]
        assert stage.ledger.args(done, "kind") == ["set by task_prerun"]
        # and they may block: none of them is called on the loop
        threads = {line["args"][0] for line in stage.ledger.lines if line["event"].startswith("task_")}
        assert "bridge-coroutines" not in threads

        # A failing one tells of its retry, and at last of its failure
        again, dead = pooled.push("CoroFailJob"), pooled.push("CoroFailJob", retry=False)
        for jid, event in ((again, "task_retry"), (dead, "task_failure")):
            stage.ledger.wait_for("task_postrun", jid)
            told = [found for found in stage.ledger.events(jid) if found.startswith("task_")]
            assert told == ["task_prerun", event, "task_postrun"]

        # and the hooks of a class go around the coroutine, a `__call__` as well
        hooked = pooled.push("CoroHookedJob")
        stage.ledger.wait_for("task_postrun", hooked)
        events = [event for event in stage.ledger.events(hooked) if not event.startswith("task_")]
        assert events == ["before_start", "kind", "left", "on_success", "after_return"]
        assert stage.ledger.args(hooked, "kind") == ["in the context of __call__"]
    finally:
        pooled.worker.stop()


REFUSED = {
    "a generator": (
        (),
        "def report(): yield",
        "the task ReportJob is a generator function",
    ),
    "an asynchronous generator": (
        (),
        "async def report(): yield",
        "the task ReportJob is a generator function",
    ),
    "a pool of greenlets": (
        ("-P", "gevent"),
        "async def report(): pass",
        "-P gevent cannot run the `async def` tasks ReportJob",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_worker_refuses_tasks_whose_body_would_never_run(
    shared_stage: Stage, tmp_path: Path, case: str
) -> None:
    flags, code, said = REFUSED[case]
    (tmp_path / "usertasks.py").write_text(f'from bridge import app\n@app.task(name="ReportJob")\n{code}\n')
    env = clean_environment() | bridge_environment(shared_stage.redis_url, None)

    ended = subprocess.run(
        [CELERY, "-A", "usertasks", "worker", "-c", "1", *flags],
        env=env | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 78, ended.stderr
    (sentence,) = [line for line in ended.stderr.splitlines() if line.startswith("bridge: ")]
    assert said in sentence
