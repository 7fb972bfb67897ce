"""Checks 1 to 8 and 69: taking jobs from queues, and success."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.support import census
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for
from tests.support.worker_process import WorkerProcess


def order(stage: Stage) -> list[object]:
    """First arguments of the jobs that are done, in order."""
    return [line["args"][0] for line in stage.ledger.lines if line["event"] == "done"]


@pytest.mark.parametrize("job_class", ["EchoJob", "NativeEchoJob"])
def test_check_01_first_pushed_runs_first(stage: Stage, single_worker: WorkerProcess, job_class: str) -> None:
    with stage.redis.pipeline(transaction=True) as atomically:
        for number in range(20):
            payload = {"class": job_class, "args": [number], "jid": f"{number:024x}", "queue": "a"}
            atomically.lpush("queue:a", json.dumps(payload))
        atomically.execute()

    wait_for(lambda: len(order(stage)) == 20, "20 jobs done")

    assert order(stage) == list(range(20))


def test_check_02_strict_order_consumes_all_of_a_before_b(stage: Stage, single_worker: WorkerProcess) -> None:
    with stage.redis.pipeline(transaction=True) as atomically:
        for number in range(10):
            for name in ("b", "a"):
                payload = {"class": "EchoJob", "args": [name], "jid": f"{name}{number:023x}", "queue": name}
                atomically.lpush(f"queue:{name}", json.dumps(payload))
        atomically.execute()

    wait_for(lambda: len(order(stage)) == 20, "20 jobs done")

    assert order(stage) == ["a"] * 10 + ["b"] * 10


def test_check_03_weights_three_to_one_take_a_first_three_times_in_four(stage: Stage) -> None:
    for name in ("often", "seldom"):
        for number in range(400):
            payload = {"class": "NativeEchoJob", "args": [name], "jid": f"{name[0]}{number:023x}"}
            stage.push_raw(json.dumps(payload), name)

    worker = stage.make_worker(concurrency=1, name="weighted", env={"BRIDGE_QUEUES": "often:3,seldom:1"})
    try:
        wait_for(lambda: len(order(stage)) >= 300, "300 jobs done", 30)
        first = order(stage)[:300]
    finally:
        worker.stop()

    assert 0.65 < first.count("often") / 300 < 0.85
    assert "seldom" in first[:40]


@pytest.mark.parametrize("job_class", ["EchoJob", "NativeEchoJob"])
def test_check_04_success_leaves_nothing_but_counters(stage: Stage, job_class: str) -> None:
    before = set(stage.redis.scan_iter())

    jid = stage.ruby.push(job_class, 1)
    stage.ledger.wait_for("done", jid)
    stage.wait_counters(1, 0)
    stage.wait_idle()

    gained = set(stage.redis.scan_iter()) - before
    today = time.strftime("%Y-%m-%d", time.gmtime()).encode()
    expected = {b"queues", b"stat:processed", b"stat:processed:" + today}
    metrics = {key for key in gained if key.startswith((b"j|", b"h|", job_class.encode()))}
    rows = {key for key in gained if key.endswith((b":work", b":workers"))}
    assert gained - metrics - rows == expected
    census.assert_keys_clean(stage.redis)


@pytest.mark.parametrize("job_class", ["EchoJob", "NativeEchoJob"])
def test_check_05_a_payload_without_args_runs_with_none(stage: Stage, job_class: str) -> None:
    jid = stage.push_job({"class": job_class})

    stage.ledger.wait_for("done", jid)

    assert stage.ledger.args(jid) == []
    stage.wait_counters(1, 0)


def test_check_06_unknown_fields_survive_a_failure(stage: Stage, failing: str) -> None:
    unknown = {
        "foo": {"deep": [1, 1.0, None, "é\u2028<>"]},
        "cattr": {"tenant": "acme"},
        "bid": "b-1",
        "trace": "00-ab",
        "big": 2**70,
    }
    stage.push_job({"class": failing, "args": [], "retry": True, **unknown})

    entry = stage.only("retry")

    assert {name: entry[name] for name in unknown} == unknown
    assert b'[1,1.0,null,"' in stage.redis.zrange("retry", 0, 0)[0]


def test_check_07_a_running_job_has_its_row(stage: Stage, sidekiq: tuple[int, ...]) -> None:
    jid = stage.ruby.push("GateJob", "row")
    stage.ledger.wait_for("started", jid)
    key = f"{stage.worker.identity}:" + ("workers" if sidekiq < (6, 4, 2) else "work")
    wait_for(lambda: stage.redis.hlen(key), "a row of the running job")

    (row,) = stage.redis.hvals(key)
    ttl = stage.redis.ttl(key)
    (seen,) = stage.ruby.call("work")
    (held,) = census.inflight(stage.redis).values()
    stage.ledger.open_gate("row")

    fields = json.loads(row)
    assert sorted(fields) == ["payload", "queue", "run_at"]
    assert fields["payload"].encode() == next(iter(held.values())).split(b"\n", 2)[2]
    assert fields["queue"] == "default"
    assert type(fields["run_at"]) is int
    assert abs(fields["run_at"] - time.time()) < 5
    assert 0 < ttl <= 60
    assert (seen["process"], seen["queue"]) == (stage.worker.identity, "default")
    stage.ledger.wait_for("done", jid)
    wait_for(lambda: not stage.redis.exists(key), "the row to go when the job is done")


def test_check_08_without_a_running_job_there_is_no_row_and_nothing_is_busy(stage: Stage) -> None:
    stage.ledger.wait_for("done", stage.ruby.push("EchoJob"))
    identity = stage.worker.identity
    beat = stage.redis.hget(identity, "beat")

    wait_for(lambda: stage.redis.hget(identity, "beat") != beat, "the next beat")

    assert stage.redis.hget(identity, "busy") == b"0"
    assert not stage.redis.exists(f"{identity}:work", f"{identity}:workers")


def test_check_69_what_comes_after_tstp_stays_in_its_queue(
    stage: Stage, disposable_worker: WorkerProcess
) -> None:
    stage.ledger.wait_for("done", stage.push_job({"class": "EchoJob", "args": [1]}, "own"))

    disposable_worker.process.signal(signal.SIGTSTP)
    wait_for(
        lambda: stage.redis.hget(disposable_worker.identity, "quiet") == b"true", "the worker to be quiet"
    )
    stage.push_job({"class": "EchoJob", "args": [2]}, "own")
    (payload,) = stage.redis.lrange("queue:own", 0, -1)

    holds_for(
        lambda: stage.redis.lrange("queue:own", 0, -1) == [payload], 1.5, "the job waits, byte for byte"
    )
    assert disposable_worker.process.is_alive
