"""Replies that no sidecar would send: no attempt is spent, nothing is lost, the worker lives."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import errors
from bridge.event_loop import EventLoop
from bridge.sidecar.http import BadReply, HttpConnection, Reply
from bridge.sidecar.result import JobResult, Status
from bridge.sidecar.stream import Stream
from bridge.sidecar.stream_upgrade import OpenStream
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.payload.job import SidekiqJob
from tests.faults.account import Account
from tests.faults.lying_sidecar import FRAME_LIES, LIES, LyingSidecar
from tests.faults.report import Report
from tests.support import census
from tests.support.stage import Stage
from tests.support.waiting import wait_for

quick = settings(deadline=None, max_examples=int(os.environ.get("FAULTS") == "all") * 400 + 100)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DELIVERY = Delivery("h:1:n", 7, "default", b'{"class":"X","args":[],"jid":"a"}', 1)
PLACES = st.sampled_from(["retry", "dead", "none"])
#: An outcome with one or two things wrong.
OUTCOMES = st.fixed_dictionaries(
    {},
    optional={
        "jid": st.just("a") | JSON,
        "delivery": st.just("h:1:n/7") | JSON,
        "status": st.sampled_from(["done", "failed", "interrupted", "shutdown"]) | JSON,
        "duration_ms": st.floats(0, 1e6) | JSON,
        "payload": st.text() | JSON,
        "error": st.fixed_dictionaries({"class": st.text() | JSON, "message": st.text() | JSON}) | JSON,
        "next": st.fixed_dictionaries(
            {"place": PLACES | JSON, "fields": st.dictionaries(st.text(), JSON) | JSON},
            optional={"delay": st.floats() | st.integers() | JSON, "dead_limits": JSON, "delay_source": JSON},
        )
        | JSON,
    },
)  # fmt: skip


@pytest.mark.short
@quick
@given(st.one_of(OUTCOMES, JSON))
def test_an_outcome_is_understood_wholly_or_is_unknown(body: Any) -> None:
    job = SidekiqJob.parse(b'{"class":"X","args":[],"jid":"a"}')
    try:
        result = JobResult.parse(json.dumps(body).encode("utf-8", "surrogatepass"), DELIVERY)
    except errors.OutcomeUnknown:
        return
    assert body["status"] == result.status.value
    if result.status is Status.FAILED:
        assert result.next is not None
        result.next.decision(job, 1.0)


@pytest.mark.short
@quick
@given(st.binary() | st.sampled_from([lie for lie in LIES.values() if lie]).flatmap(
    lambda lie: st.integers(0, len(lie)).map(lambda end: lie[:end])
))  # fmt: skip
def test_whatever_a_connection_answers_is_a_reply_or_a_bad_one(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    connection = object.__new__(HttpConnection)
    connection._socket = ours
    with theirs, ours:
        theirs.settimeout(5)
        theirs.sendall(sent[:100_000])
        theirs.shutdown(socket.SHUT_WR)
        try:
            reply = connection.exchange(b"GET / HTTP/1.1\r\n\r\n", 2.0)
        except (OSError, BadReply):
            return
        assert isinstance(reply, Reply)


@pytest.mark.short
@quick
@given(
    st.lists(
        st.binary(max_size=40)
        | st.sampled_from(sorted(FRAME_LIES.values()))
        | st.tuples(st.integers(0, 6), st.sampled_from([200, 503, -1]), st.binary(max_size=9)).map(
            lambda frame: b"%d %d %d\n" % (frame[0], frame[1], len(frame[2])) + frame[2]
        ),
        max_size=6,
    ),
    st.integers(1, 5),
)
def test_whatever_comes_on_a_stream_each_job_is_called_back_once(chunks: list[bytes], jobs: int) -> None:
    ours, theirs = socket.socketpair()
    event_loop = EventLoop()
    cut: list[bool] = []
    stream = Stream(OpenStream(ours), event_loop, lambda: cut.append(True))
    called: list[int] = []
    for number in range(jobs):
        delivery = Delivery("h:1:a", number, "default", b'{"class":"X"}', 1)
        stream.send(delivery, lambda status, body, number=number: called.append(number))
    event_loop.wait(0.01)
    with contextlib.suppress(BrokenPipeError):  # it was cut at the first lie
        for chunk in chunks:
            theirs.sendall(chunk)
            event_loop.wait(0.01)
    theirs.close()
    for _ in range(100):
        if stream.closed:
            break
        event_loop.wait(0.01)

    assert sorted(called) == list(range(jobs))
    assert cut == [True]


@pytest.mark.short
def test_a_worker_that_starts_beside_a_sidecar_that_lies_of_itself_waits_for_the_truth(
    bare_stage: Stage, seed: int, tmp_path: Path
) -> None:
    """A lone surrogate as boot id ended it. One with line breaks began requests of the liar's choice."""
    stage = bare_stage
    liar = LyingSidecar(stage.directory / "l.sock", seed, streams=True)
    liar.lying = False
    victim = socket.socket(socket.AF_UNIX)
    victim.bind(str(tmp_path / "victim.sock"))
    victim.listen()
    victim.settimeout(0.2)
    liar.health_lie = {"boot": "\ud800"}
    worker = stage.start_worker(env={"BRIDGE_SIDECAR_URL": liar.url})
    job = stage.push_job({"class": "AnyJob", "args": [1], "retry": True})

    for lie in (
        {"boot": "b\r\nX-Bridge-Recovered: 1"},
        {"url": f"unix://{tmp_path}/victim.sock"},
        {"url": "http://127.0.0.1:22"},
        {"slots": -1},
        {"slots": 10**30, "busy": 1e999},
    ):
        liar.health_lie, asked = lie, liar.asked
        wait_for(lambda asked=asked: liar.asked >= asked + 2, "two more looks at its health", 30)
        assert worker.process.is_alive
        with pytest.raises(TimeoutError):
            victim.accept()
    assert stage.redis.llen("queue:default") == 1, "no attempt was spent"

    liar.health_lie = {}
    wait_for(lambda: job in liar.truly_done, "the job", 30)
    victim.close()
    liar.close()


@pytest.mark.parametrize("streams", [False, True])
def test_a_worker_survives_a_sidecar_that_lies(
    bare_stage: Stage, report: Report, seed: int, streams: bool
) -> None:
    stage = bare_stage
    liar = LyingSidecar(stage.directory / "l.sock", seed, streams=streams)
    worker = stage.start_worker(env={"BRIDGE_SIDECAR_URL": liar.url}, concurrency=10)
    resident = psutil.Process(worker.pid).memory_info().rss
    ruby = {stage.push_job({"class": "AnyJob", "args": [1], "retry": True}) for _ in range(60)}
    native = {stage.push_job({"class": "NativeEchoJob", "args": [1]}, "high") for _ in range(20)}

    # When it lies for a while, and then does not any more
    wait_for(lambda: len(liar.told) >= 20 or stage.redis.zcard("dead") >= 30, "twenty kinds of lies", 60)
    liar.lying = False
    stage.wait_done(70)

    # Then every job was done, or buried because its outcome was unknown three times; none has failed
    dead = {entry["jid"]: entry["item"] for entry in stage.ruby.set("dead")}
    report.add(
        f"17-19 a sidecar that lies ({'stream' if streams else 'requests'})",
        Account(len(ruby | native), tuple(ruby - set(liar.truly_done) - set(dead)), {}, (), ()),
        None,
        f"{len(liar.told)} kinds of lies, {len(dead)} buried as poison pills",
    )
    assert ruby <= set(liar.truly_done) | set(dead)
    assert native == {line["jid"] for line in stage.ledger.lines if line["event"] == "done"}
    assert {item["error_class"] for item in dead.values()} <= {"Bridge::PoisonPill"}
    assert not any("retry_count" in item for item in dead.values())
    assert (stage.redis.zcard("retry"), stage.counters()[1]) == (0, 0)
    assert not census.inflight(stage.redis)
    assert worker.process.is_alive
    assert psutil.Process(worker.pid).memory_info().rss < resident + 300 * 1024 * 1024
    liar.close()
