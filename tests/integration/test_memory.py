"""Ceilings of memory: pool processes and the worker itself are replaced, and no job is lost or run twice."""

from __future__ import annotations

from tests.support import census
from tests.support.stage import Stage
from tests.support.waiting import wait_for


def test_a_pool_process_that_grew_is_replaced_after_its_job(bare_stage: Stage) -> None:
    stage = bare_stage
    worker = stage.start_worker(
        "-P", "prefork", concurrency=1, env={"BRIDGE_CHILD_MAX_MEMORY_MEGABYTES": "250"}
    )
    jids = [stage.push_job({"class": "NativeHoardJob", "args": [300]}) for _ in range(3)]
    for jid in jids:
        stage.ledger.wait_for("done", jid, seconds=60)

    stage.wait_done()
    lines = [line for line in stage.ledger.lines if line["event"] == "done"]
    assert len({line["pid"] for line in lines}) == len(lines) == 3
    assert worker.pid not in {line["pid"] for line in lines}
    assert stage.counters() == (3, 0)


def test_a_worker_that_grew_ends_as_on_term_and_leaves_its_queue(bare_stage: Stage) -> None:
    stage = bare_stage
    worker = stage.start_worker(
        "-P", "threads", concurrency=2, env={"BRIDGE_MAX_MEMORY_MEGABYTES": "300", "BRIDGE_QUEUES": "default"}
    )
    jid = stage.push_job({"class": "NativeHoardJob", "args": [400]})
    stage.ledger.wait_for("done", jid, seconds=40)

    assert worker.process.wait(40) == 0
    assert "has grown above 300 MB" in worker.log
    assert stage.counters() == (1, 0)
    waiting = stage.push_job({"class": "NativeEchoJob", "args": []})
    again = stage.make_worker("-P", "threads", name="again")
    try:
        wait_for(lambda: stage.ledger.count("done", waiting), "the next worker to go on", 30)
    finally:
        again.stop()
    census.assert_each_in_one_place(stage.redis)
