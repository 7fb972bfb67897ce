"""Puma workers are replaced, secrets and certificates are rotated, and no job notices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.test_metric_pages import sidecar_page
from tests.support import census
from tests.support.certificates import Authority
from tests.support.stage import Stage
from tests.support.tls_sidecar import TlsSidecar
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(240)


def load(stage: Stage, until: Callable[[], object], what: str, seconds: float = 90) -> list[str]:
    """Push small jobs all the time until ``until()``; gives their jids."""
    pushed: list[str] = []

    def push_and_look() -> object:
        pushed.extend(stage.push_job({"class": "EchoJob", "args": [], "retry": True}) for _ in range(2))
        return until()

    wait_for(push_and_look, what, seconds)
    return pushed


def assert_each_ran_once(stage: Stage, jids: list[str]) -> None:
    stage.wait_done(30)
    done = Counter(line["jid"] for line in stage.ledger.lines if line["event"] == "done")
    assert {jid: done[jid] for jid in jids} == dict.fromkeys(jids, 1)
    assert stage.counters()[1] == 0
    assert (stage.redis.zcard("retry"), stage.redis.zcard("dead")) == (0, 0)
    assert not list(stage.redis.scan_iter("bridge:recovered:*"))
    census.assert_each_in_one_place(stage.redis)


def restarts(stage: Stage, reason: str) -> int:
    assert stage.sidecar is not None
    lines = sidecar_page(stage.sidecar.socket).splitlines()
    found = [
        line for line in lines if line.startswith("bridge_sidecar_worker_restarts_total{") and reason in line
    ]
    return sum(int(line.rsplit(" ", 1)[1]) for line in found)


def rows(stage: Stage, metric: str) -> set[str]:
    """The metric of each Puma worker, with the worker's number."""
    assert stage.sidecar is not None
    lines = sidecar_page(stage.sidecar.socket).splitlines()
    return {line for line in lines if line.startswith(f"{metric}{{")}


def puma_workers(stage: Stage) -> set[str]:
    # Number and time of the start: two that are forked together may well start in the same millisecond, and a
    # test that told them apart by the time alone waited in vain for a third.
    return rows(stage, "bridge_sidecar_start_time_seconds")


def each_has_one(stage: Stage, metric: str) -> bool:
    return [line.rsplit(" ", 1)[1] for line in rows(stage, metric)] == ["1", "1"]


def test_a_puma_worker_that_grew_is_replaced_and_its_long_job_ends_in_peace(bare_stage: Stage) -> None:
    stage = bare_stage
    stage.start_sidecar(threads=3, arguments=("--workers", "2", "--max-rss", "200", "--timeout", "1"))
    wait_for(lambda: len(puma_workers(stage)) == 2, "both Puma workers", 60)
    stage.start_worker(concurrency=6)
    wait_for(lambda: each_has_one(stage, "bridge_sidecar_open_streams"), "a stream to each", 60)
    long = [stage.push_job({"class": "GateJob", "args": ["long"]}) for _ in range(2)]
    for jid in long:
        stage.ledger.wait_for("started", jid)
    # One in each: whichever grows has a long job.
    wait_for(lambda: each_has_one(stage, "bridge_sidecar_busy_slots"), "one long job in each", 10)
    before = puma_workers(stage)
    hoard = stage.push_job({"class": "HoardJob", "args": [250]})

    small = load(stage, lambda: restarts(stage, "memory") == 1, "the replacement to come")
    small += load(stage, lambda: len(puma_workers(stage)) == 3, "the new one to be there")
    stage.ledger.open_gate("long")
    small += load(stage, lambda: len(puma_workers(stage)) == 2, "the old one to leave")

    assert len(puma_workers(stage) - before) == 1
    assert_each_ran_once(stage, [*long, hoard, *small])


@pytest.fixture
def tls_sidecar(bare_stage: Stage, tmp_path: Path) -> Iterator[TlsSidecar]:
    if not bare_stage.root.is_system:
        pytest.skip("the certificates lie outside the change-root")
    made = TlsSidecar(bare_stage, tmp_path)
    yield made
    made.stop()


def test_secret_and_certificates_are_rotated_under_load_without_a_failed_job(
    bare_stage: Stage, tls_sidecar: TlsSidecar
) -> None:
    stage, sidecar = bare_stage, tls_sidecar
    worker = stage.start_worker(concurrency=10, env=sidecar.worker_env)
    serial = sidecar.served_serial()

    # The sidecar takes both secrets and shows a new certificate.
    sidecar.secrets["sidecar"].write_text("new\nold\n")
    sidecar.authority.issue("server")
    sidecar.replace_puma_workers()
    jids = load(stage, lambda: sidecar.has_replaced(1), "both to be replaced", 120)
    jids += load(stage, lambda: sidecar.served_serial() != serial, "the certificate")
    # The worker signs with the new one and shows a new certificate of its own; nothing is restarted.
    sidecar.authority.issue("worker")
    sidecar.secrets["worker"].write_text("new\n")
    jids += load(stage, lambda: "were read again" in worker.log, "the worker to read its files", 30)
    # The old one is taken away.
    sidecar.secrets["sidecar"].write_text("new\n")
    sidecar.replace_puma_workers()
    jids += load(stage, lambda: sidecar.has_replaced(2), "both to be replaced again", 120)
    jids += load(stage, lambda: len(jids) > 200, "some more jobs")

    assert_each_ran_once(stage, jids)
    assert "signature" not in sidecar.process.log + worker.log
    assert "wait in their queues" not in worker.log


def test_a_certificate_that_is_wrong_for_a_while_under_load_fails_no_job(
    bare_stage: Stage, tls_sidecar: TlsSidecar
) -> None:
    stage, sidecar = bare_stage, tls_sidecar
    worker = stage.start_worker(concurrency=10, env=sidecar.worker_env)
    jids = load(stage, lambda: stage.ledger.count("done") > 20, "jobs to run")

    # A certificate that nobody here knows: jobs wait where everyone can see them
    Authority(sidecar.directory, "foreign").issue("server")
    sidecar.replace_puma_workers()
    jids += load(stage, lambda: sidecar.has_replaced(1), "both to be replaced", 120)
    jids += load(
        stage, lambda: "wait in their queues" in worker.log, "the worker to stop taking Ruby jobs", 30
    )
    jids += load(stage, lambda: stage.redis.llen("queue:default") > 50, "a backlog", 30)
    assert "certificate" in worker.log.rsplit("wait in their queues", 1)[1]

    # The right one again: the first job within 10 s, and none was failed or run twice
    sidecar.authority.issue("server")
    sidecar.replace_puma_workers()
    wait_for(lambda: sidecar.has_replaced(2), "both to be replaced again", 120)
    before = stage.ledger.count("done")
    jids += load(stage, lambda: stage.ledger.count("done") > before, "jobs to run again", 10)
    assert_each_ran_once(stage, jids)
