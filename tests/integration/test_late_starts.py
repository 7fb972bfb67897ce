"""Rates whose starts are late: the scripts on a real Redis, with a clock that the test moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import redis

from bridge.limits import calls
from bridge.limits.lines import Lines
from bridge.redis import scripts
from bridge.redis.scripts import Script
from bridge.sidekiq import keys
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.store import RedisStore
from tests.integration.test_limit_scripts import ME, Fleet
from tests.integration.worker import job

CLOCK = "bridge:clock-of-a-test"
Late = Callable[[Random], float]


def never(_: Random) -> float:
    return 0.001


def on_a_busy_machine(random: Random) -> float:
    """One start of twenty finds all cores taken."""
    return random.uniform(0.05, 0.3) if random.random() < 0.05 else random.expovariate(100)


def in_stalls(random: Random) -> float:
    return 0.6 if random.random() < 0.005 else random.expovariate(400)


class SlowFleet(Fleet):
    """Its clock stands still but for ``pass_time``."""

    now = 1_800_000_000_000_000

    def pass_time(self, seconds: float) -> None:
        self.now += round(seconds * 1e6)
        self.client.hset(CLOCK, mapping={"s": self.now // 1_000_000, "us": self.now % 1_000_000})

    def advance(self) -> float:
        """Move the line. Seconds until a worker must look again."""
        (gate,) = self.limits.gates(SidekiqJob.parse(job()), "default")
        now, look, _ = scripts.run(self.client, [calls.advance(gate, ["queue:default"])])[0]
        return float(look or now) - float(now)

    def wait_in_line(self, count: int) -> None:
        for number in range(count):
            self.take(job(jid=f"{self.now}-{number}"))

    def starts(self, count: int, late: Late) -> list[float]:
        """When so many jobs of the line begin, each of them late."""
        random, began = Random(7), []
        while len(began) < count:
            wait = self.advance()
            if not self.client.llen("queue:default"):
                self.pass_time(max(wait, 0.000001))
                continue
            self.pass_time(late(random))
            if self.next()[1]:
                began.append(self.now / 1e6)
        return began


@pytest.fixture
def slow(store: RedisStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> SlowFleet:
    real = lua.load

    def load(name: str) -> Script:
        source = real(name).text.decode()
        return Script.of(
            name, source.replace("redis.call('TIME')", f"redis.call('HMGET', '{CLOCK}', 's', 'us')")
        )

    monkeypatch.setattr(lua, "load", load)
    fleet = SlowFleet(store, [{"class": "HardJob", "rate": getattr(request, "param", "10/s")}])
    fleet.pass_time(0)
    return fleet


def most_within(began: list[float], seconds: float) -> int:
    return max(sum(first <= at < first + seconds for at in began) for first in began)


@pytest.mark.parametrize("late", [never, on_a_busy_machine, in_stalls])
def test_ten_a_second_are_600_a_minute_on_an_overloaded_machine_and_never_12_in_a_second(
    slow: SlowFleet, late: Late
) -> None:
    """A start that was later than 0.8 of an interval was lost: 600 starts took 62.98 s."""
    slow.wait_in_line(601)
    began = slow.starts(600, late)
    assert began[-1] - began[0] == pytest.approx(59.9, rel=0.01)
    assert most_within(began, 1.0) <= 11


RATES = [
    ("5/s", 1, 5),
    ("20/s", 1, 20),
    ("50/s", 1, 50),
    ("100/s", 1, 100),
    ("100/m", 60, 100),
    ("3/2s", 2, 3),
]


@pytest.mark.parametrize(
    ("slow", "seconds", "most"), RATES, indirect=["slow"], ids=[rate for rate, *_ in RATES]
)
def test_no_start_that_is_made_up_exceeds_a_rate(slow: SlowFleet, seconds: float, most: int) -> None:
    interval = seconds / most
    slow.wait_in_line(2 * most + 21)
    began = slow.starts(2 * most + 20, lambda random: random.choice((0, 0, 0.3, 0.9, 2)) * random.random())
    assert most_within(began, seconds) <= most + max(1, 0.05 / interval)
    assert all(
        later - at >= min(0.2 * interval, interval - 0.05) - 1e-5 for at, later in itertools.pairwise(began)
    )


@pytest.mark.parametrize("slow", ["10/s", "100/s"], indirect=True)
def test_no_burst_follows_a_pause(slow: SlowFleet) -> None:
    """Only jobs that wait make up for late starts."""
    slow.wait_in_line(3)
    slow.starts(2, never)
    slow.pass_time(0.9)
    assert not slow.client.exists("schedule")
    slow.wait_in_line(4)
    before = slow.now / 1e6
    interval = 1 / slow.limits.declared[0].starts
    assert slow.starts(3, never)[-1] - before >= 3 * interval - 1e-5


def test_a_rate_that_is_changed_while_jobs_wait_is_heeded_at_once(slow: SlowFleet) -> None:
    """After 1/h the next start was an hour away, whatever a worker declared then."""
    hourly = SlowFleet(slow.store, [{"class": "HardJob", "rate": "1/h"}])
    hourly.wait_in_line(4)
    slow.now = hourly.now
    slow.pass_time(1)
    began = slow.starts(3, never)
    assert began[-1] - 1_800_000_001 < 0.5


@pytest.mark.parametrize("late", [never, in_stalls])
@pytest.mark.parametrize("seconds", [0.00001, 0.003, 0.7, 3600])
def test_a_step_back_of_redis_clock_begins_no_second_window(
    slow: SlowFleet, seconds: float, late: Late
) -> None:
    """The noted starts were forgotten, and two seconds made up: 20 starts within a second of 10/s."""
    slow.wait_in_line(90)
    # Given starts at their rate
    began = slow.starts(20, late)
    ttl = slow.client.pttl(keys.gate("HardJob:all")[3])
    for _ in range(3):
        # When Redis' clock goes back, as that of a replica that takes over is behind
        slow.pass_time(-seconds)
        began = [at - seconds for at in began] + slow.starts(20, late)
    # Then no second has more than one start beyond the rate, and none waits for the time to come again
    assert most_within(began, 1.0) <= 11
    assert began[-1] - began[0] == pytest.approx(7.9, abs=0.5)
    assert 0 < slow.client.pttl(keys.gate("HardJob:all")[3]) <= ttl + 1000


@pytest.mark.parametrize("slow", ["1000/s"], indirect=True)
def test_a_step_back_of_redis_clock_makes_up_for_nothing_where_no_starts_are_noted(slow: SlowFleet) -> None:
    """50 ms were made up for again at each step."""
    slow.wait_in_line(900)
    began = slow.starts(100, lambda _: 0.0)
    for _ in range(5):
        slow.pass_time(-0.01)
        began = [at - 0.01 for at in began] + slow.starts(100, lambda _: 0.0)
    assert began[-1] - began[0] >= 0.599 - 0.051


def test_what_a_rate_keeps_is_bounded_and_ends(slow: SlowFleet) -> None:
    slow.wait_in_line(60)
    slow.starts(50, on_a_busy_machine)
    starts = keys.gate("HardJob:all")[3]
    assert slow.client.llen(starts) == 12
    assert slow.client.memory_usage(starts) < 500
    assert 0 < slow.client.ttl(starts) <= 3


@pytest.mark.parametrize("slow", ["5000/h", "1/5s", "2000/s"], indirect=True)
def test_a_rate_whose_share_makes_up_for_enough_notes_no_starts(slow: SlowFleet) -> None:
    slow.wait_in_line(3)
    slow.starts(2, never)
    assert slow.client.llen(keys.gate("HardJob:all")[3]) == 1


def test_a_head_that_waits_for_an_earlier_claim_is_not_looked_at_without_a_pause(
    store: RedisStore, empty_redis: redis.Redis
) -> None:
    """The thread of the lines asked Redis again and again until the claim had ended, for up to a second."""
    store.lease(ME, 60_000, register=True)
    fleet = Fleet(store, [{"class": "HardJob", "rate": "20/s"}])
    gates = fleet.limits.gates(SidekiqJob.parse(job()), "default")
    # Given a line, and a worker that has not asked for the places of an earlier claim
    for number in range(3):
        fleet.take(job(jid=f"j{number}"))
    lines = Lines(empty_redis, fleet.limits, lambda: ME)
    lines.round()
    seconds, micros = empty_redis.time()
    empty_redis.zadd(keys.CLAIMING, {"other:1:000000000002 9 1": seconds + micros / 1e6 - 0.1})
    # When the next start is due
    looks: list[Any] = []
    while not looks or float(looks[-1][0]) < float(fleet.answer[2]):
        looks += scripts.run(empty_redis, [calls.advance(gates[0], ["queue:default"])])
    # Then the head waits, and so does the thread
    assert empty_redis.llen("queue:default") == 0
    lines.follow(gates, float(looks[-1][0]), float(looks[-1][1]), waits=False)
    lines._starts.due(float(looks[-1][0]))
    assert float(looks[-1][1]) > float(looks[-1][0]) + 0.01
