"""Lines of waiting jobs: what moves them when no job ends, and what a person sees of them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from bridge.cli.group import main
from bridge.limits import lines as lines_module
from bridge.limits.admission import Admission, of_others
from bridge.limits.claim_times import ClaimTimes
from bridge.limits.declarers import Declarers
from bridge.limits.gates import Limits
from bridge.limits.lines import Lines
from bridge.limits.overview import Overview
from bridge.sidekiq import keys
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.lease.reaper import Reaper
from bridge.sidekiq.outcome.decision import Discard
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.claims import ClaimMark
from bridge.sidekiq.store.settlement import Settlement
from bridge.sidekiq.store.store import RedisStore
from tests.integration.test_limit_scripts import ME, Fleet
from tests.integration.worker import job, next_first
from tests.support.command import Bridge
from tests.support.diagnosis import diagnose, process, push
from tests.support.redis_server import RedisServer

CAP = [{"class": "HardJob", "concurrency": 2}]
LINE = "HardJob:all"


@pytest.fixture
def fleet(store: RedisStore, request: pytest.FixtureRequest) -> Fleet:
    store.lease(ME, 60_000, register=True)
    return Fleet(store, getattr(request, "param", CAP))


def waiting(fleet: Fleet, count: int, **fields: Any) -> list[str]:
    """Given: two jobs that run, and so many that wait."""
    for number in range(2):
        fleet.take(job(jid=f"runs{number}", **fields))
    jids = [f"w{number}" for number in range(count)]
    assert not any(fleet.take(job(jid=jid, **fields)) for jid in jids)
    return jids


def lines_of(fleet: Fleet) -> Lines:
    return Lines(fleet.client, fleet.limits, lambda: ME)


def in_schedule(client: redis.Redis) -> list[tuple[str, float]]:
    return [
        (json.loads(payload)["jid"], at) for payload, at in client.zrange("schedule", 0, -1, withscores=True)
    ]


def ran_next(fleet: Fleet) -> list[str]:
    return [json.loads(payload)["jid"] for payload in next_first(fleet.client)]


def test_the_times_of_waiting_jobs_are_renewed_long_before_a_scheduler_moves_them(fleet: Fleet) -> None:
    jids = waiting(fleet, 250)
    # Given some that are due soon, beside jobs of other people in schedule
    for key in ("schedule", keys.gate(LINE)[2]):
        for member, at in fleet.client.zrange(key, 0, -1, withscores=True):
            fleet.client.zadd(key, {member: at - 500})
    fleet.client.zadd("schedule", {job(jid="other"): time.time() + 50})
    fleet.client.zadd(keys.WAITING, {LINE: 1})
    lines_of(fleet).round()
    found = in_schedule(fleet.client)
    assert found[0][0] == "other"
    assert [jid for jid, _ in found[1:]] == jids
    assert found[1][1] > time.time() + lines_module.RENEWED_BEFORE_SECONDS
    assert fleet.line(LINE) == jids


def test_a_place_that_redis_brought_back_from_an_old_state_is_freed(fleet: Fleet) -> None:
    waiting(fleet, 1)
    # Given a place whose job is not in the hash of its worker
    fleet.client.hdel(keys.inflight(ME), "1")
    lines_of(fleet).round()
    assert ran_next(fleet) == ["w0"]


def test_the_place_of_a_process_without_a_lease_ends_by_itself(fleet: Fleet) -> None:
    waiting(fleet, 1)
    fleet.client.zadd(keys.gate(LINE)[0], {"stock:1:abc/1": time.time() - 1})
    fleet.client.zrem(keys.gate(LINE)[0], f"{ME}/1")
    lines_of(fleet).round()
    assert ran_next(fleet) == ["w0"]


def test_a_higher_limit_lets_jobs_go_as_its_worker_starts(fleet: Fleet) -> None:
    waiting(fleet, 5)
    higher = Fleet(fleet.store, [{"class": "HardJob", "concurrency": 4}])
    lines_of(higher).round()
    assert sorted(ran_next(fleet)) == ["w0", "w1"]


def test_a_limit_that_no_living_process_declares_is_gone(fleet: Fleet) -> None:
    jids = waiting(fleet, 120)
    fleet.client.hset(keys.LIMITS, "dead:1:abc", json.dumps([{"name": "HardJob", **CAP[0]}]))
    other = Lines(fleet.client, Fleet(fleet.store, []).limits, lambda: "other:1:000000000002")
    other.round()
    now = time.time()
    assert [(jid, at < now + 1) for jid, at in in_schedule(fleet.client)] == [(jid, True) for jid in jids]
    assert not fleet.client.exists(keys.gate(LINE)[2], keys.WAITING)
    assert b"dead:1:abc" not in fleet.client.hgetall(keys.LIMITS)


def test_a_limit_that_another_living_process_declares_is_left_to_it(fleet: Fleet) -> None:
    waiting(fleet, 3)
    lines_of(fleet).round()
    other = Lines(fleet.client, Fleet(fleet.store, []).limits, lambda: "other:1:000000000002")
    other.round()
    assert fleet.line(LINE) == ["w0", "w1", "w2"]


@pytest.mark.parametrize("fleet", [[]], indirect=True)
def test_the_limit_of_a_job_itself_is_kept_by_any_worker(fleet: Fleet) -> None:
    waiting(fleet, 2, bridge_limit={"concurrency": 2})
    other = Lines(fleet.client, Fleet(fleet.store, []).limits, lambda: "other:1:000000000002")
    other.round()
    assert fleet.line(LINE) == ["w0", "w1"]
    fleet.client.delete(keys.gate(LINE)[0])
    fleet.client.zadd(keys.WAITING, {LINE: 1})
    other._look_at = 0.0
    other.round()
    assert sorted(ran_next(fleet)) == ["w0", "w1"]


def test_a_line_whose_name_is_not_utf_8_stops_no_other_line(fleet: Fleet) -> None:
    """Any client can write there. Each round failed at its name: lines without a worker did not go on."""
    waiting(fleet, 3)
    broken = b"\xff\xed\xa0\x80:all"
    fleet.client.zadd("bridge:waiting", {broken: 0})
    fleet.client.zadd(b"bridge:places:" + broken, {"x": 1})
    fleet.client.hset("bridge:lines", b"=" + broken, 1)
    other = Lines(fleet.client, Limits(), lambda: "other:1")
    other.round()
    assert [jid for jid, at in in_schedule(fleet.client) if at < time.time() + 1] == ["w0", "w1", "w2"]
    assert not fleet.client.exists(keys.gate(LINE)[2])
    assert {row.limit for row in Overview(fleet.client).lines()} <= {"HardJob"}


def test_the_last_process_that_ends_lets_the_waiting_jobs_go(fleet: Fleet) -> None:
    jids = waiting(fleet, 3)
    lines = lines_of(fleet)
    lines.round()
    lines.leave()
    assert [jid for jid, at in in_schedule(fleet.client) if at < time.time() + 1] == jids
    assert not fleet.client.exists(keys.LIMITS)


def test_the_overview_shows_what_is_in_use_and_what_waits(fleet: Fleet) -> None:
    waiting(fleet, 3)
    lines_of(fleet).round()
    (line,) = Overview(fleet.client).lines()
    assert (line.limit, line.key, line.concurrency, line.declared_by) == ("HardJob", "all", 2, 1)
    assert (line.in_use, line.waiting, line.next_jid) == (2, 3, "w0")


@pytest.mark.parametrize("fleet", [[{"class": "HardJob", "rate": "1/m", "key": "args.0"}]], indirect=True)
def test_the_overview_shows_each_key_of_a_rate(fleet: Fleet) -> None:
    fleet.take(job(jid="a", args=["x:y"]))
    fleet.take(job(jid="b", args=["x:y"]))
    lines_of(fleet).round()
    (line,) = Overview(fleet.client).lines()
    assert (line.limit, line.key, line.rate, line.waiting, line.next_jid) == (
        "HardJob/args.0",
        "x:y",
        "1/m",
        1,
        "b",
    )
    assert line.next_in_seconds == pytest.approx(60, abs=5)


def test_the_command_lists_limits_and_lets_all_go(
    fleet: Fleet, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRIDGE_REDIS_URL", redis_server.url_of(15))
    waiting(fleet, 3)
    lines_of(fleet).round()
    shown = CliRunner().invoke(main, ["limits"])
    assert shown.exit_code == 0, shown.output
    assert "2 at once" in shown.output
    assert json.loads(CliRunner().invoke(main, ["limits", "--json"]).output)[0]["waiting"] == 3
    released = CliRunner().invoke(main, ["limits", "--release", "--yes"])
    assert released.exit_code == 0, released.output
    assert all(at < time.time() + 1 for _, at in in_schedule(fleet.client))


def test_the_doctor_names_a_key_path_that_matches_nothing_and_a_limit_out_of_reach(
    redis_server: RedisServer, empty_redis: redis.Redis
) -> None:
    limits = [
        {"class": "EchoJob", "concurrency": 1, "key": "args.0.id"},
        {"queue": "nowhere", "concurrency": 1},
        {"class": "OtherJob", "concurrency": 1000},
    ]
    bridge = Bridge(
        {
            "BRIDGE_REDIS_URL": redis_server.url_of(15),
            "BRIDGE_HEALTH_BIND": "127.0.0.1:0",
            "BRIDGE_LIMITS": json.dumps(limits),
        }
    )
    process(empty_redis, identity="host:1:ab", lease=True)
    push(empty_redis, "default", bridge_limit={"concurrency": 0})
    found = diagnose(bridge)
    assert "none of 1 jobs has anything at args.0.id" in found["limit-key"].seen
    assert "no worker serves the queue nowhere" in found["limit-unreached"].seen
    assert "EchoJob runs without its own limit" in found["limit-wrong"].seen


def test_a_process_without_the_limit_that_takes_a_job_from_the_line_does_not_stop_it(fleet: Fleet) -> None:
    """In a rolling deploy the reservation of such a job held the line for 30 s: one job in 30 s left it."""
    waiting(fleet, 3)
    fleet.settle("runs0")
    lines = lines_of(fleet)
    lines.round()

    def later(seconds: float) -> float:
        """How soon a worker looks at the line."""
        due = fleet.client.zscore(keys.WAITING, LINE)
        for key, member in ((keys.gate(LINE)[1], "w0"), (keys.WAITING, LINE)):
            fleet.client.zincrby(key, -seconds, member)
        lines._look_at = 0.0
        lines.round()
        return float(due) - time.time()

    # Given the job is in its queue, for all workers are busy: it keeps its place, however long
    assert later(1.1) < 1.1
    assert later(20) < 17
    assert ran_next(fleet) == ["w0"]
    # When a worker takes it that does not ask
    fleet.client.rpop("queue:default")
    fleet.client.zadd(keys.WAITING, {LINE: 1})
    later(17)
    # Then the next one goes
    assert ran_next(fleet) == ["w1"]


def test_claims_of_one_millisecond_have_times_in_the_order_of_the_worker(fleet: Fleet) -> None:
    """Each claim counted from its millisecond again, so two claims of one millisecond were mixed."""
    found = SidekiqJob.parse(job(jid="any"))
    units = [
        (UnitOfWork(Delivery(ME, n, "default", found.raw, 1_796_041_429_495), found), ()) for n in range(50)
    ]
    order = ClaimTimes()
    times = [*order.times(units, []), *order.times(units, [])]
    assert times[0] == "1796041429.4950000"
    assert times == sorted(set(times))


def test_the_jobs_of_a_claim_have_times_within_it(fleet: Fleet) -> None:
    """A claim of many jobs takes less than a microsecond for each on a fast machine."""
    found = SidekiqJob.parse(job(jid="any"))
    units = [
        (UnitOfWork(Delivery(ME, n, "default", found.raw, 1_796_041_429_495), found), ()) for n in range(50)
    ]
    mark = ClaimMark(ME, 0, 1_796_041_429_495_100, 1_796_041_429_495_120, 50)
    times = ClaimTimes().times(units, [mark])
    assert (times[0], times[-1]) == ("1796041429.4951000", "1796041429.4951196")
    assert len({float(time) for time in times}) == 50


@pytest.mark.parametrize("fleet", [[]], indirect=True)
def test_the_line_of_a_namespaced_class_is_not_that_of_its_namespace(fleet: Fleet) -> None:
    """``A::B:all`` begins with ``A:``: a worker with a limit of A moved the jobs of A::B by it."""
    waiting(fleet, 2, **{"class": "HardJob::Inner"}, bridge_limit={"concurrency": 2})
    limited = Fleet(fleet.store, [{"class": "HardJob", "concurrency": 9}])
    lines_of(limited).round()
    assert ran_next(fleet) == []
    assert [line.limit for line in Overview(fleet.client, limited.limits.declared).lines()] == [
        "HardJob::Inner",
        "HardJob",
    ]


def test_bridge_recover_frees_the_places_of_a_dead_worker(fleet: Fleet) -> None:
    """It took each orphan for a job that waits, whose place has no holder."""
    waiting(fleet, 1)
    fleet.client.hset(keys.LIMITS, ME, json.dumps([{"name": "HardJob", **CAP[0]}]))
    fleet.store.effects.sources.append(of_others(Limits(), Declarers(fleet.client).declared_by))
    Reaper(fleet.store, Lease(fleet.store, lambda: "me:1:000000000002")).reap(ME)
    assert fleet.places(LINE) == 0
    assert {"runs0", "runs1"} <= set(ran_next(fleet))


@pytest.mark.parametrize(
    "fleet", [CAP, [{"class": "HardJob", "rate": "1/s"}]], indirect=True, ids=["concurrency", "rate"]
)
def test_a_job_that_ends_before_its_run_returns_its_reservation(fleet: Fleet) -> None:
    """An expired job that had left the line kept the next one from going for 30 s."""
    found = SidekiqJob.parse(job(jid="expired"))
    gates = fleet.limits.gates(found, "default")
    reserved = gates[0].keys[1]
    fleet.client.zadd(reserved, {"expired": time.time() + 30})
    fleet.client.hset(keys.inflight(ME), "7", b"1\ndefault\n" + found.raw)
    admission = Admission(fleet.client, fleet.limits, lines_of(fleet))
    effects = admission.effects(found, Discard(), ME, 7)
    fleet.store.exchange(
        [Settlement(ME, 7, "default", found.raw, Discard(), "expired", effects=effects)], None
    )
    assert not fleet.client.exists(reserved)
