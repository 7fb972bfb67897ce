"""Notices for Ruby: written with the end of the job, told at least once, whatever dies in between."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from bridge import errors
from bridge.redis import scripts
from bridge.sidecar.notices import DEATH, MOST_TRIES, Teller
from bridge.sidekiq.api.actions import Actions
from bridge.sidekiq.api.entries import Entry, Place
from bridge.sidekiq.outcome.decision import Bury, Decision, Discard, GiveBack, Retry
from bridge.sidekiq.outcome.notice import MOST, MOST_WITH_FAILURES, REVOKED, Context, Death, Notice
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.store.notices import TAKEN_MS
from tests.faults.test_every_crash_point import LONG_AGO, Died, Fuse, reap
from tests.integration.worker import Worker, connect_to, job, push
from tests.support import census
from tests.support.redis_server import RedisServer

EXHAUSTED = Notice("ValueError", "no luck", death=Death.EXHAUSTED)
#: The shared stages are in others.
DATABASE = 15
#: Quick enough for every run of the suite.
pytestmark = pytest.mark.short

DYING = ("buried", "revoked", "poison", "malformed", "killed")


class Ruby:
    """A sidecar that hears everything. ``fuse`` may end the worker before it asks, or before the reply."""

    def __init__(self, fuse: Fuse | None = None) -> None:
        self.fuse = fuse
        self.heard: list[str] = []
        self.failures: list[Exception] = []
        self.boots: list[str] = []

    def __call__(self, path: str, body: bytes, boot: str = "") -> bytes:
        self._burn()
        self.boots.append(boot)
        if self.failures:
            raise self.failures.pop(0)
        notices = list(entries_in(body))
        self.heard += [f"{path}:{name_of(payload)}" for _, payload in notices]
        self._burn()
        told = [{"id": head["id"], "status": "told"} for head, _ in notices]
        return json.dumps({"notices": told}).encode()

    def _burn(self) -> None:
        if self.fuse is not None and self.fuse.left is not None:
            self.fuse.left -= 1
            if self.fuse.left < 0:
                raise Died

    @property
    def names(self) -> set[str]:
        return {heard.partition(":")[2] for heard in self.heard}


def entries_in(body: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    while body:
        size, _, rest = body.partition(b"\n")
        entry, body = rest[: int(size)], rest[int(size) :]
        head, _, payload = entry.partition(b"\n")
        yield json.loads(head), payload


def name_of(payload: bytes) -> str:
    try:
        return str(json.loads(payload)["jid"])
    except ValueError:
        return "malformed"


def teller(worker: Worker, ruby: Ruby, boot: str = "a", *, is_open: bool = False) -> Teller:
    puma = SimpleNamespace(boot=boot, takes_notices=True, draining=False)
    fleet: Any = SimpleNamespace(members=[SimpleNamespace(worker=puma, running=0)])
    breaker: Any = SimpleNamespace(is_open=is_open)
    return Teller(worker.store, fleet, ruby, breaker)


def worker_named(name: str, server: RedisServer) -> Worker:
    made = Worker(name, server.port, DATABASE, slots=8)
    made.store.tell_ruby(True)
    return made


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with connect_to(redis_server.port, DATABASE) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    fuse = Fuse()
    monkeypatch.setattr(scripts, "run", fuse.run)
    return fuse


@pytest.fixture
def worker(client: redis.Redis, redis_server: RedisServer) -> Iterator[Worker]:
    made = worker_named("host:1", redis_server)
    yield made
    made.close()


def leave_notices(worker: Worker, *jids: str) -> None:
    """Given: these jobs have died."""
    push(worker.client, "default", *(job(jid=jid) for jid in jids))
    worker.lease.register()
    for unit in worker.take():
        worker.settle(unit, decision_about(str(unit.job.jid), unit.delivery.payload))


def decision_about(name: str, payload: bytes) -> Decision:
    if name == "revoked":
        return Discard(REVOKED)
    return GiveBack(unknown_outcome=True) if name == "poison" else Bury(payload, notice=EXHAUSTED)


# -- every crash point


def test_a_worker_that_dies_at_any_command_loses_no_notice(
    client: redis.Redis, redis_server: RedisServer, fuse: Fuse
) -> None:
    points = 0
    while live_once(client, redis_server, fuse, points + 1):
        points += 1
    # Fewer would mean that the sweep has not met the commands it is about.
    assert points >= 12


def live_once(client: redis.Redis, server: RedisServer, fuse: Fuse, commands: int) -> bool:
    """Die after so many commands, let another finish, and check. False when it lived to its end."""
    client.flushdb()
    fuse.left = None
    first, last = worker_named("host:1", server), worker_named("host:2", server)
    push(client, "default", b"{oops", *(job(jid=name) for name in ("buried", "revoked", "poison")))
    client.set("bridge:recovered:poison", 2)
    client.zadd("schedule", {job(jid="killed"): 1.0})
    ruby = Ruby(fuse)
    died = False
    try:
        fuse.left = commands
        whole_life(first, ruby)
    except Died:
        died = True
    fuse.left = None
    assert_noted_with_its_end(client, ruby)

    # Its lease and its right to tell run out.
    client.zadd("bridge:lease", {first.identity: LONG_AGO}, xx=True)
    client.delete("bridge:telling")
    last.lease.register()
    reap(last)
    whole_life(last, ruby)

    assert not client.exists("bridge:notices", "bridge:telling", "queue:default", "schedule", "retry")
    assert ruby.names == set(DYING)
    assert max(Counter(ruby.heard).values()) <= 2
    assert client.zcard("dead") == 4
    assert not census.inflight(client)
    for each in (first, last):
        each.close()
    return died


def whole_life(worker: Worker, ruby: Ruby) -> None:
    worker.lease.register()
    for unit in worker.take():
        worker.settle(unit, decision_about(str(unit.job.jid), unit.delivery.payload))
    worker.fetcher.flush()  # what cannot be read
    # A job whose worker died comes back; the third time is the end of it.
    for unit in worker.take():
        worker.settle(unit, decision_about(str(unit.job.jid), unit.delivery.payload))
    actions = Actions(worker.store, lambda: Timestamps.SECONDS)
    waiting = worker.client.zrange("schedule", 0, -1)
    actions.kill([Entry.of(Place("schedule"), member) for member in waiting], 1e9)
    teller(worker, ruby).round()


def assert_noted_with_its_end(client: redis.Redis, ruby: Ruby) -> None:
    """Every job either lives, or its end is noted or told; no job that lives is noted."""
    noted = {name_of(entry.partition(b"\n")[2]) for entry in client.lrange("bridge:notices", 0, -1)}
    alive = {name_of(payload) for payload in client.lrange("queue:default", 0, -1)}
    alive |= {name_of(payload) for payload in client.zrange("schedule", 0, -1)}
    alive |= {
        name_of(entry.split(b"\n", 2)[2])
        for key in client.scan_iter("bridge:inflight:*")
        for entry in client.hvals(key)
    }
    assert noted | alive | ruby.names == set(DYING)
    assert not alive & (noted | ruby.names)


# -- outages


def test_while_no_sidecar_answers_notices_wait_and_cost_nothing(
    worker: Worker, client: redis.Redis, fuse: Fuse
) -> None:
    leave_notices(worker, "1")
    ruby = Ruby()
    fuse.left = 1  # the next command would be the worker's last

    teller(worker, ruby, is_open=True).round()

    assert ruby.heard == []
    assert client.llen("bridge:notices") == 1


def test_a_sidecar_that_goes_down_gives_the_notices_free_at_once(worker: Worker, client: redis.Redis) -> None:
    leave_notices(worker, "1", "2")
    ruby = Ruby()
    ruby.failures = [errors.SidecarUnavailable("draining")]

    teller(worker, ruby).round()
    assert client.llen("bridge:notices") == 2
    assert not client.exists("bridge:telling")

    teller(worker, ruby).round()
    assert ruby.names == {"1", "2"}
    assert not client.exists("bridge:notices")


def test_a_lost_outcome_is_asked_for_at_the_same_puma_worker_and_alone(
    worker: Worker, client: redis.Redis
) -> None:
    """It may have died of one of them; and if it lives, it knows what ran."""
    leave_notices(worker, "1", "2")
    ruby = Ruby()
    ruby.failures = [errors.OutcomeUnknown("cut")]
    assert teller(worker, ruby, "a").round() < 5.0
    make_free(client)

    teller(worker, ruby, "b").round()

    assert ruby.heard == [f"{DEATH}:1", f"{DEATH}:2"]
    assert ruby.boots == ["a", "a", "a"]


def test_a_notice_whose_outcome_is_lost_again_and_again_is_dropped_in_words(
    worker: Worker, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that ends its process would end one Puma worker after another."""
    leave_notices(worker, "1")
    ruby = Ruby()
    ruby.failures = [errors.OutcomeUnknown("cut")] * MOST_TRIES
    told = teller(worker, ruby)
    for _ in range(MOST_TRIES):
        assert client.llen("bridge:notices") == 1
        told.round()
        make_free(client)

    assert not client.exists("bridge:notices")
    assert told.dropped == 1
    assert "dropped the notice" in caplog.text


def make_free(client: redis.Redis) -> None:
    """The time for which notices were put off is over."""
    for name, value in client.hgetall("bridge:telling").items():
        client.hset("bridge:telling", name, b"0 " + value.partition(b" ")[2])


def test_a_notice_belongs_to_one_teller_until_its_time_is_over(worker: Worker, client: redis.Redis) -> None:
    leave_notices(worker, "1")
    assert len(worker.store.take_notices("a").notices) == 1
    assert worker.store.take_notices("b").notices == []
    till = int(client.hvals("bridge:telling")[0].split()[0])
    assert 0 < till / 1000 - client.time()[0] <= TAKEN_MS / 1000 + 1


def test_beyond_the_limit_the_oldest_is_dropped_and_counted(
    worker: Worker, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    oldest = EXHAUSTED.entry("oldest", "default", job(jid="oldest"))
    newer = EXHAUSTED.entry("newer", "default", job(jid="newer"))
    client.rpush("bridge:notices", *[newer] * (MOST - 1), oldest)
    leave_notices(worker, "1")

    assert client.llen("bridge:notices") == MOST
    assert client.lindex("bridge:notices", -1) == newer
    client.ltrim("bridge:notices", 0, 0)
    told = teller(worker, Ruby())
    told.see(MOST)
    told.round()
    assert told.dropped == 1
    assert "oldest are dropped until" in caplog.text
    assert "1 notices for Ruby were dropped" in caplog.text


def test_failures_do_not_push_deaths_out(worker: Worker, client: redis.Redis) -> None:
    """While no sidecar answers, failing native tasks add notices by the thousand."""
    failure = Notice("ValueError", "no luck", errors=Context.FAILED)
    old = EXHAUSTED.entry("old", "default", job(jid="old"))
    client.rpush("bridge:notices", *[old] * MOST_WITH_FAILURES)
    push(client, "default", job(jid="failing"))
    worker.lease.register()
    for unit in worker.take():
        worker.settle(unit, Retry(1e9, unit.delivery.payload, failure))

    assert client.zcard("retry") == 1
    assert client.lrange("bridge:notices", 0, -1) == [old] * MOST_WITH_FAILURES
    assert client.get("bridge:notices-dropped") == b"1"
    leave_notices(worker, "dying")
    assert client.llen("bridge:notices") == MOST_WITH_FAILURES + 1


def test_without_a_sidecar_nothing_is_written(worker: Worker, client: redis.Redis) -> None:
    worker.store.tell_ruby(False)
    client.set("bridge:recovered:poison", 2)
    leave_notices(worker, "buried", "revoked", "poison")
    assert client.zcard("dead") == 2
    assert not client.exists("bridge:notices")


def test_a_list_of_a_wrong_type_keeps_no_job_from_its_end(worker: Worker, client: redis.Redis) -> None:
    client.set("bridge:notices", "nonsense")
    leave_notices(worker, "1")
    assert client.zcard("dead") == 1
