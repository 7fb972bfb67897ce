"""Queues and sets full of what no client would push: run, failed or buried, and nothing ends the worker."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.faults.report import Report
from tests.faults.rig import Rig
from tests.faults.settle import settle_once
from tests.support import census
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

few = settings(
    deadline=None,
    max_examples=12,
    phases=[
        Phase.explicit,
        Phase.generate,
    ],  # each example costs seconds: a failing one is long enough as it is
    suppress_health_check=list(HealthCheck),
)
NEVER = 4e9
#: Python's JSON takes it, Ruby's does not: buried as it stands.
LONE_SURROGATE = b'{"class":"EchoJob","args":["\\ud800"],"jid":"half"}'
#: What is buried without being counted, as Sidekiq counts nothing where no job was.
UNCOUNTED = ("Bridge::JobRefused", "Bridge::InvalidPayload")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "true", "-1", "\x00", "é\u2028</script>", "../../x", 10**30, -1, 0, 1e308])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
CLASSES = st.sampled_from(["EchoJob", "NativeEchoJob", "FailJob", "NativeFailJob", "GreetJob", "NoSuchJob"])
FIELDS = """args jid queue retry retry_count retry_queue retry_for created_at enqueued_at at failed_at
    retried_at error_class error_message error_backtrace backtrace wrapped display_class tags cattr locale
    discarded_at headers id task callbacks"""
JOBS = st.fixed_dictionaries(
    {"class": CLASSES | JSON},
    optional=dict.fromkeys(FIELDS.split(), JSON),
)
PAYLOADS = (
    JOBS.map(lambda fields: json.dumps(fields).encode("utf-8", "surrogatepass"))
    | JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.binary(max_size=40)
    | st.sampled_from(
        [
            b'{"class":"EchoJob","args":[',
            b"[" * 9000,
            b"{}" * 100,
            b"9" * 5000,
            b"{\xff}",
            b"",
            LONE_SURROGATE,
        ]
    )
)
#: All of these are due but the last. (An infinite one breaks a page of Sidekiq 6.4, whoever wrote it.)
SCORES = st.sampled_from([-1e9, -1.0, 0.0, 1.5, 1e9, NEVER])
numbers = itertools.count(1)


def uncounted(client: redis.Redis, pushed: set[bytes]) -> int:
    """Dead entries that were no jobs, or none that the sidecar would run."""
    return sum(member in pushed or _reason(member) in UNCOUNTED for member in client.zrange("dead", 0, -1))


def _reason(member: bytes) -> object:
    entry = json.loads(member)
    return entry.get("error_class")


def assert_all_accounted_for(stage: Stage, count: int, pushed: set[bytes]) -> None:
    """Each was counted once, or stands in the dead set as what it is."""
    client = stage.redis
    wait_until_equal(
        lambda: stage.counters()[0] + uncounted(client, pushed), count, "what was counted or buried uncounted"
    )
    assert stage.worker is not None
    assert stage.worker.process.is_alive
    assert stage.sidecar is not None
    assert stage.sidecar.process.is_alive
    census.assert_keys_clean(client)
    jid = stage.ruby.push("EchoJob", next(numbers), queue="high")
    stage.ledger.wait_for("done", jid)
    # No page is asked for: Sidekiq's own fail at a payload whose tags are no list, wherever it ran.


@pytest.mark.timeout(240)
@few
@given(st.lists(PAYLOADS, min_size=10, max_size=60, unique=True))
def test_whatever_stands_in_a_queue_is_run_failed_or_buried(
    shared_stage: Stage, payloads: list[bytes]
) -> None:
    shared_stage.reset()
    for payload in payloads:
        shared_stage.push_raw(payload)
    shared_stage.wait_done(60)

    assert_all_accounted_for(shared_stage, len(payloads), set(payloads))


@pytest.mark.timeout(240)
@few
@given(
    st.lists(
        st.tuples(PAYLOADS.filter(lambda payload: payload != LONE_SURROGATE), SCORES),
        min_size=10,
        max_size=60,
        unique_by=lambda entry: entry[0],
    ),
    st.sampled_from(["retry", "schedule"]),
)
def test_whatever_stands_in_a_set_moves_when_it_is_due(
    shared_stage: Stage, entries: list[tuple[bytes, float]], name: str
) -> None:
    shared_stage.reset()
    with shared_stage.redis.pipeline() as pipeline:
        for member, score in entries:
            pipeline.zadd(name, {member: score})
        pipeline.execute()
    due = sum(score != NEVER for _, score in entries)
    # Queues that the worker does not read take what names them; that is where it belongs.
    # By their bytes: whichever fails meanwhile stands in retry again, as another entry.
    members = [member for member, score in entries if score != NEVER]
    wait_for(lambda: not any_left(shared_stage.redis, name, members), f"nothing due in {name}", 60)
    elsewhere = {key for key in shared_stage.queued if key.removeprefix("queue:") not in READ}
    stranded = sum(shared_stage.redis.llen(key) for key in elsewhere)
    for key in elsewhere:
        shared_stage.redis.delete(key)
    shared_stage.wait_done(60)

    assert_all_accounted_for(shared_stage, due - stranded, {member for member, _ in entries})


def any_left(client: redis.Redis, name: str, members: list[bytes]) -> bool:
    return any(score is not None for score in client.zmscore(name, members)) if members else False


READ = ("high", "default", "low", "mailers")


# -- keys of a wrong type


@contextlib.contextmanager
def of_a_wrong_type(client: redis.Redis, key: str) -> Iterator[None]:
    client.delete(key)
    client.rpush(key, "wrong") if key.startswith("stat") else client.set(key, "wrong")
    try:
        yield
    finally:
        client.delete(key)


@pytest.mark.parametrize("key", ["retry", "schedule", "paused", "processes", "queue:low", "stat:processed"])
def test_a_key_of_a_wrong_type_holds_up_only_what_needs_it(rig: Rig, report: Report, key: str) -> None:
    rig.redis.delete("queue:low")
    with of_a_wrong_type(rig.redis, key), rig.feeding():
        rig.wait_more_done(30)
        assert all(worker.process.is_alive for worker in rig.workers.values())
    with rig.feeding():
        rig.wait_more_done(30)

    rig.wait_quiet()
    account = rig.account()
    report.add(f"47 {key} is of a wrong type", account, None)
    assert not account.lost
    assert not account.repeated
    rig.assert_well()


def test_a_queue_that_is_cleared_under_way_costs_only_its_own_jobs(rig: Rig, report: Report) -> None:
    with rig.feeding(rate=60):
        rig.wait_more_done(20)
        gone: set[str] = set()
        for _ in range(10):
            with rig.redis.pipeline(transaction=True) as clearing:
                payloads, _ = clearing.lrange("queue:low", 0, -1).delete("queue:low").execute()
            gone |= {json.loads(payload)["jid"] for payload in payloads}
        rig.wait_more_done(20)
    kept = [line for line in rig.pushed_path.read_text().splitlines() if line.split()[0] not in gone]
    rig.pushed_path.write_text("\n".join(kept) + "\n")

    rig.wait_quiet()
    account = rig.account()
    report.add("48 a queue is cleared under way", account, None, f"{len(gone)} jobs deleted by hand")
    assert not account.repeated
    rig.assert_well()


def test_a_paused_queue_waits_and_goes_on(rig: Rig, report: Report) -> None:
    rig.redis.sadd("paused", "low")
    with rig.feeding():
        rig.wait_more_done(30)
    begun = {line["jid"] for line in rig.ledger.lines}
    waiting = {json.loads(payload)["jid"] for payload in rig.redis.lrange("queue:low", 0, -1)}
    assert waiting
    assert not waiting & begun
    rig.redis.delete("paused")

    settle_once(rig, report, "48 a paused queue", None, f"{len(waiting)} jobs waited")
