"""Locks and batch counters of gems are right after every end of a job that Ruby does not see."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge.celery import make_app
from bridge.settings import load as load_settings
from tests.support import redis_users
from tests.support.command import Bridge
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

APP = ROOT / "tests/support/ruby/told_jobs.rb"
DATABASE = 11

#: Gives the push and the arguments of one class for which ``end_by`` brings the death about.
Death = Callable[["Gems"], str]


class Gems:
    """A stage whose app has the stub gems, on both sides of the push."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.redis = stage, stage.redis
        stage.ruby.call("evaluate", code=f"require {str(APP)!r}")

    def push(self, **item: Any) -> str | None:
        """As Ruby pushes: under a lock, in a batch. None where another job holds the lock."""
        options = {"lock": "until_executed", "bid": "b1", "queue": "default"}
        found: str | None = self.stage.ruby.call("push", item={**options, **item})
        return found

    def bridge(self, *words: str) -> None:
        """An operator's command, with the settings of the worker."""
        url = self.stage.sidecar.url if self.stage.sidecar else ""
        Bridge({"BRIDGE_REDIS_URL": self.stage.redis_url, "BRIDGE_SIDECAR_URL": url})(*words).well()

    def revoke(self, jid: str) -> None:
        """Celery's command, as Flower's Revoke."""
        settings = load_settings({"BRIDGE_REDIS_URL": redis_users.for_bridge(self.stage.redis_url)})
        make_app(settings).control.revoke(jid, terminate=True)

    @property
    def locks(self) -> list[bytes]:
        return [*self.redis.scan_iter("uniquejobs:*"), *self.redis.scan_iter("activejob_uniqueness:*")]

    @property
    def dead_in_batch(self) -> int:
        return int(self.redis.hget("BID-b1", "dead") or 0)

    def heard(self, jid: str) -> list[str]:
        told = ("exhausted", "died", "error")
        return [event for event in self.stage.ledger.events(jid) if event in told]


@pytest.fixture(scope="module")
def shared(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    with Stage(redis_server, ruby_root, database=DATABASE, jobs=APP) as stage:
        stage.start_sidecar()
        stage.start_worker()
        yield stage


@pytest.fixture
def gems(shared: Stage) -> Gems:
    shared.reset()
    return Gems(shared)


def out_of_retries(gems: Gems) -> str:
    return str(gems.push(**{"class": "NativeFailJob", "args": ["x"], "retry": 0}))


def without_retries(gems: Gems) -> str:
    return str(gems.push(**{"class": "NativeFailJob", "args": ["x"], "retry": False}))


def not_for_the_dead_set(gems: Gems) -> str:
    return str(gems.push(**{"class": "NativeFailJob", "args": ["x"], "retry": 0, "dead": False}))


def past_its_deadline(gems: Gems) -> str:
    item = {"class": "NativePatientJob", "args": [30], "retry": 0, "time_limit": 0.3}
    return str(gems.push(**item))


def refused(gems: Gems) -> str:
    return str(gems.push(**{"class": "Kernel", "args": ["x"]}))


def killed_by_command(gems: Gems) -> str:
    jid = str(gems.push(**{"class": "NativeFailJob", "args": ["x"], "at": time.time() + 1000}))
    gems.bridge("jobs", "kill", "schedule", jid, "--yes")
    return jid


def cancelled_by_command(gems: Gems) -> str:
    jid = str(gems.push(**{"class": "EchoJob", "args": ["x"], "at": time.time() + 1000}))
    gems.bridge("jobs", "cancel", jid, "--yes")
    return jid


def revoked_while_it_waits(gems: Gems) -> str:
    jid = str(gems.push(**{"class": "EchoJob", "args": ["x"], "at": time.time() + 1000}))
    gems.revoke(jid)
    return jid


def revoked_in_python(gems: Gems) -> str:
    jid = str(gems.push(**{"class": "NativePatientJob", "args": [30]}))
    gems.stage.ledger.wait_for("started", jid)
    gems.revoke(jid)
    return jid


def revoked_in_ruby(gems: Gems) -> str:
    """Sidekiq's retry code does not see it: the run ends, and no handler runs in it."""
    jid = str(gems.push(**{"class": "SleepJob", "args": [30]}))
    gems.stage.ledger.wait_for("started", jid)
    gems.revoke(jid)
    return jid


def poison_pill(gems: Gems) -> str:
    """Found for the third time in the hands of a worker that died."""
    jid = str(gems.push(**{"class": "NativeFailJob", "args": ["x"], "queue": "unserved"}))
    (payload,) = gems.redis.lrange("queue:unserved", 0, -1)
    gems.redis.delete("queue:unserved")
    gems.redis.set(f"bridge:recovered:{jid}", 2)
    gems.redis.hset("bridge:inflight:gone:1:abc", "7", b"1\ndefault\n" + payload)
    gems.redis.zadd("bridge:lease", {"gone:1:abc": 0})
    return jid


EXHAUSTED, KILLED, FAILED = ["exhausted", "died"], ["died"], ["error"]


@pytest.mark.parametrize(
    ("end", "heard", "dead"),
    [
        (out_of_retries, [*EXHAUSTED, *FAILED], 1),
        (without_retries, [*KILLED, *FAILED], 0),
        (not_for_the_dead_set, [*EXHAUSTED, *FAILED], 0),
        (past_its_deadline, [*EXHAUSTED, *FAILED], 1),
        (refused, KILLED, 1),
        (killed_by_command, KILLED, 1),
        (cancelled_by_command, KILLED, 0),
        (revoked_while_it_waits, KILLED, 0),
        (revoked_in_python, KILLED, 0),
        (revoked_in_ruby, [*KILLED, *FAILED], 0),
        (poison_pill, EXHAUSTED, 1),
    ],
)
def test_after_this_end_the_lock_is_free_and_the_batch_counts_it(
    gems: Gems, end: Death, heard: list[str], dead: int
) -> None:
    jid = end(gems)

    wait_until_equal(lambda: gems.dead_in_batch, 1, "dead jobs in the batch")
    wait_until_equal(lambda: sorted(gems.heard(jid)), sorted(heard), "what Ruby heard")
    wait_until_equal(lambda: gems.redis.exists("bridge:notices", "bridge:telling"), 0, "notices")
    assert gems.locks == []
    assert gems.redis.zcard("dead") == dead
    assert gems.dead_in_batch == 1


def test_the_lock_is_taken_while_the_job_lives_and_the_next_push_passes_after_its_death(gems: Gems) -> None:
    """Before, the next `perform_async` returned nil each time."""
    item = {"class": "NativeFailJob", "args": ["x"], "retry": 3}
    jid = str(gems.push(**item))
    wait_until_equal(lambda: gems.heard(jid), FAILED, "what Ruby heard")
    assert gems.push(**item) is None

    gems.bridge("jobs", "kill", "retry", jid, "--yes")

    wait_for(lambda: not gems.locks, "the lock to be free")
    assert gems.push(**{**item, "at": time.time() + 1000}) is not None


@pytest.mark.parametrize("odd", [{}, {"tags": 5}], ids=["", "an entry that is mended for the pages"])
def test_a_hook_that_discards_keeps_the_job_out_of_the_dead_set(
    gems: Gems, sidekiq: tuple[int, ...], odd: dict[str, Any]
) -> None:
    """Sidekiq 7.3 runs no death handlers then, 8.1 does; 6.4 does not know the answer."""
    gems.stage.push_job({"class": "NativeLambdaJob", "args": [], "retry": 0, "bid": "b1", **odd})
    gems.stage.wait_done()
    knows, tells = sidekiq >= (7,), not (7,) <= sidekiq < (8,)
    wait_until_equal(lambda: gems.stage.counters()[1], 1, "failed jobs")
    wait_until_equal(lambda: gems.redis.exists("bridge:notices", "bridge:telling"), 0, "notices")
    assert gems.redis.zcard("dead") == int(not knows)
    assert gems.dead_in_batch == int(tells)


def test_an_active_job_that_dies_in_python_frees_its_lock(gems: Gems) -> None:
    if not gems.stage.ruby.call("evaluate", code="defined?(NativeUniqueJob) ? true : false"):
        pytest.skip("no ActiveJob here")
    assert gems.stage.ruby.call("evaluate", code="NativeUniqueJob.push_once('x')")
    wait_until_equal(lambda: gems.redis.zcard("dead"), 1, "dead jobs")
    wait_for(lambda: not gems.locks, "the lock to be free")
    assert json.loads(gems.redis.zrange("dead", 0, -1)[0])["wrapped"] == "NativeUniqueJob"
