"""``bridge jobs`` and ``push``, with the real gem as witness."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from bridge.sidekiq import keys
from bridge.sidekiq.api.actions import Actions
from bridge.sidekiq.api.entries import Entries, Place
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.store.store import RedisStore
from tests.support.command import Bridge
from tests.support.processes import ROOT, clean_environment
from tests.support.redis_server import RedisServer
from tests.support.ruby_helper import RubyHelper
from tests.support.ruby_root import RubyRoot
from tests.support.waiting import wait_for

QUEUE = "default"


@pytest.fixture(scope="module")
def ruby(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[RubyHelper]:
    """The gem, on the database that these tests use."""
    place = ruby_root.make_directory()
    helper = RubyHelper(ruby_root, place, redis_server.url_of(15))
    yield helper
    helper.stop()
    place.remove()


@pytest.fixture
def bridge(redis_server: RedisServer, empty_redis: redis.Redis, ruby: RubyHelper) -> Bridge:
    return Bridge({"BRIDGE_REDIS_URL": redis_server.url_of(15), "BRIDGE_SIDEKIQ_VERSION": ruby.version})


def failed_job(jid: str, **fields: Any) -> bytes:
    """A payload as it stands in ``retry``, with what a re-encoding would change."""
    before = f'{{"class":"EchoJob","args":[1.0, 1e2,"\\u00e9", 12345678901234567890123],"jid":"{jid}",'
    after = {
        "queue": QUEUE, "retry": True, "created_at": 1700000000.5, "enqueued_at": 1700000001.5,
        "failed_at": 1700000002.5, "retry_count": 2, "retried_at": 1700000003.5,
        "error_class": "ArgumentError", "error_message": "no such thing", **fields,
    }  # fmt: skip
    return (before + json.dumps(after)[1:]).encode()


def waiting(client: redis.Redis, queue: str = QUEUE) -> list[bytes]:
    found: list[bytes] = client.lrange(f"queue:{queue}", 0, -1)
    return found


def without_time(payload: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(payload)
    assert abs(float(fields.pop("enqueued_at")) % 1e11 - time.time()) < 1e11
    return {name: value for name, value in fields.items() if name != "jid"}


@pytest.mark.parametrize(("name", "page"), [("retry", "retries"), ("dead", "morgue")])
def test_retry_does_what_the_web_uis_button_does(
    bridge: Bridge, ruby: RubyHelper, empty_redis: redis.Redis, name: str, page: str
) -> None:
    empty_redis.zadd(name, {failed_job("a" * 24): 1700000100.25, failed_job("b" * 24): 1700000200.25})

    ruby.post(f"/{page}/1700000100.25-{'a' * 24}", f"/{page}", {"retry": "Retry"})
    bridge("jobs", "retry", name, "b" * 24).well()

    by_us, by_sidekiq = waiting(empty_redis)
    assert without_time(by_us) == without_time(by_sidekiq)
    assert json.loads(by_us)["retry_count"] == 1
    assert type(json.loads(by_us)["enqueued_at"]) is type(json.loads(by_sidekiq)["enqueued_at"])
    assert empty_redis.zcard(name) == 0
    assert empty_redis.smembers("queues") == {QUEUE.encode()}


def test_retry_keeps_every_byte_that_sidekiq_does_not_edit(bridge: Bridge, empty_redis: redis.Redis) -> None:
    empty_redis.zadd("retry", {failed_job("c" * 24): 1.5})

    bridge("jobs", "retry", "retry", "c" * 24).well()

    assert b'"args":[1.0, 1e2,"\\u00e9", 12345678901234567890123]' in waiting(empty_redis)[0]


def test_a_scheduled_job_is_added_to_its_queue_as_the_web_ui_does(
    bridge: Bridge, ruby: RubyHelper, empty_redis: redis.Redis
) -> None:
    for _ in range(2):
        ruby.call("perform_in", job="EchoJob", seconds=600, args=[1, "é"])
    first, second = ruby.set("schedule")

    ruby.post(f"/scheduled/{first['score']!r}-{first['jid']}", "/scheduled", {"add_to_queue": "Add"})
    bridge("jobs", "retry", "schedule", second["jid"]).well()

    by_us, by_sidekiq = map(json.loads, waiting(empty_redis))
    assert list(by_us) == list(by_sidekiq)
    assert (by_us["args"], by_us["created_at"]) == ([1, "é"], second["item"]["created_at"])


def test_kill_moves_the_same_bytes_to_the_dead_set(
    bridge: Bridge, ruby: RubyHelper, empty_redis: redis.Redis
) -> None:
    queued, failed = failed_job("d" * 24), failed_job("e" * 24)
    empty_redis.lpush("queue:default", queued)
    empty_redis.zadd("retry", {failed: 5.0})

    bridge("jobs", "kill", "queue:default", "d" * 24, "--yes").well()
    bridge("jobs", "kill", "retry", "e" * 24, "--yes").well()

    assert set(empty_redis.zrange("dead", 0, -1)) == {queued, failed}
    assert empty_redis.exists("queue:default", "retry") == 0
    assert {entry["jid"] for entry in ruby.set("dead")} == {"d" * 24, "e" * 24}
    ruby.get("/morgue").assert_fine()


def test_kill_keeps_the_page_of_an_odd_job_open(bridge: Bridge, empty_redis: redis.Redis) -> None:
    put(
        empty_redis,
        "queue:default",
        [b'{"class":"ReportJob","jid":"%s","queue":"default","args":[],"tags":5}' % (b"c" * 24)],
    )

    bridge("jobs", "kill", "queue:default", "c" * 24, "--yes").well()

    [entry] = empty_redis.zrange("dead", 0, -1)
    assert (json.loads(entry)["tags"], json.loads(entry)["bridge_original"]) == ([], {"tags": 5})


def test_kill_trims_the_dead_set_as_sidekiq_does(
    bridge: Bridge, empty_redis: redis.Redis, redis_server: RedisServer
) -> None:
    small = Bridge({**bridge.settings, "BRIDGE_DEAD_MAX_JOBS": "3"})
    empty_redis.zadd("retry", {failed_job(f"{i:024x}"): float(i) for i in range(5)})

    small("jobs", "kill", "retry", "--all", "--yes").well()

    assert empty_redis.zcard("dead") == 2  # one fewer than the limit, as in Sidekiq


@pytest.mark.parametrize("place", ["retry", "schedule", "dead", "queue:default"])
def test_delete_removes_the_jobs_that_are_named_and_no_other(
    bridge: Bridge, empty_redis: redis.Redis, place: str
) -> None:
    jobs = [failed_job(f"{i:024x}") for i in range(3)]
    if place.startswith("queue:"):
        empty_redis.lpush(place, *jobs)
    else:
        empty_redis.zadd(place, dict.fromkeys(jobs, 7.0))  # the same score: only the jid tells them apart

    answer = bridge("jobs", "delete", place, f"{1:024x}", "--yes", "--json").well()

    assert answer.json == {"action": "delete", "place": place, "matched": 1, "done": 1}
    left = waiting(empty_redis) if place.startswith("queue:") else empty_redis.zrange(place, 0, -1)
    assert set(left) == {jobs[0], jobs[2]}


def test_jobs_are_chosen_by_class_error_and_age(bridge: Bridge, empty_redis: redis.Redis) -> None:
    now = time.time()
    kinds = {
        "old": failed_job("1" * 24, retried_at=now - 7200),
        "new": failed_job("2" * 24, retried_at=now - 10),
        "other error": failed_job("3" * 24, retried_at=now - 7200, error_class="IOError"),
        "other class": failed_job("4" * 24, retried_at=now - 7200).replace(b"EchoJob", b"TestJob"),
    }
    empty_redis.zadd("retry", {job: float(i) for i, job in enumerate(kinds.values())})

    def chosen(*words: str) -> set[str]:
        lines = bridge("jobs", "list", "retry", "--json", *words).well().out.splitlines()
        jids = {json.loads(line)["jid"] for line in lines}
        return {name for name, job in kinds.items() if json.loads(job)["jid"] in jids}

    assert chosen("--class", "Test*") == {"other class"}
    assert chosen("--error", "ioerr") == {"other error"}
    assert chosen("--older", "1h", "--error", "no such", "--class", "EchoJob") == {"old", "other error"}
    assert chosen("--newer", "1m") == {"new"}
    assert chosen() == set(kinds)

    bridge("jobs", "delete", "retry", "--older", "1h", "--class", "EchoJob", "--yes").well()
    assert set(empty_redis.zrange("retry", 0, -1)) == {kinds["new"], kinds["other class"]}


def test_without_saying_which_jobs_nothing_happens(bridge: Bridge, empty_redis: redis.Redis) -> None:
    empty_redis.zadd("retry", {failed_job("1" * 24): 1.0})

    answer = bridge("jobs", "delete", "retry", "--yes")

    assert answer.code == 2
    assert "--all of retry" in answer.err
    assert empty_redis.zcard("retry") == 1


def test_a_no_to_the_question_changes_nothing(bridge: Bridge, empty_redis: redis.Redis) -> None:
    empty_redis.zadd("retry", {failed_job(f"{i:024x}"): 1.0 for i in range(1200)})

    refused = bridge("jobs", "delete", "retry", "--all", typed="n\n")

    assert refused.code == 1
    assert "Delete 1,200 jobs of retry?" in refused.err
    assert empty_redis.zcard("retry") == 1200

    assert "1,200 of 1,200" in bridge("jobs", "delete", "retry", "--all", typed="y\n").well().out
    assert empty_redis.exists("retry") == 0


def test_a_job_that_is_not_there_is_said_so(bridge: Bridge) -> None:
    answer = bridge("jobs", "retry", "retry", "f" * 24)

    assert answer.code == 1
    assert "not in retry" in answer.err


@pytest.mark.parametrize("place", ["retry", "queue:default"])
def test_of_many_jobs_each_page_is_swept_while_others_come_in(
    empty_redis: redis.Redis, store: RedisStore, place: str
) -> None:
    # From the head of a list: what is taken out moves the rest, and so does what is pushed meanwhile.
    jobs = [failed_job(f"{i:024x}") for i in range(2500)]
    put(empty_redis, place, jobs)
    actions = Actions(store, lambda: Timestamps.SECONDS)
    odd = {f"{i:024x}" for i in range(1, 2500, 2)}

    def act(entries: Any) -> int:
        put(empty_redis, place, [failed_job(f"new{time.monotonic_ns():021x}")])
        return actions.delete([entry for entry in entries if entry.job.jid in odd])

    taken = Entries(store.client).sweep(Place.parse(place), act)

    left = waiting(empty_redis) if place.startswith("queue") else empty_redis.zrange(place, 0, -1)
    assert taken == 1250
    assert not {json.loads(job)["jid"] for job in left} & odd
    assert set(jobs[::2]) <= set(left)


def test_a_command_that_is_interrupted_leaves_each_job_in_one_place(
    bridge: Bridge, empty_redis: redis.Redis
) -> None:
    put(empty_redis, "retry", [failed_job(f"{i:024x}") for i in range(20_000)])
    env = clean_environment() | dict(bridge.settings) | {"BRIDGE_DEAD_MAX_JOBS": "100000"}
    command = [sys.executable, "-m", "bridge", "jobs", "kill", "retry", "--all", "--yes"]
    killing = subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: empty_redis.zcard("dead") > 100, "the first jobs to be dead", 60)
        killing.send_signal(signal.SIGINT)
        assert killing.wait(30) == 1
    finally:
        killing.kill()

    left, dead = empty_redis.zrange("retry", 0, -1), empty_redis.zrange("dead", 0, -1)
    assert left
    assert len(left) + len(dead) == len({*left, *dead}) == 20_000


def put(client: redis.Redis, place: str, jobs: list[bytes]) -> None:
    if place.startswith("queue"):
        client.lpush(place, *jobs)
    else:
        client.zadd(place, {job: float(i) for i, job in enumerate(jobs)})


@pytest.mark.parametrize("verb", ["retry", "kill", "delete"])
def test_two_who_act_at_once_share_the_jobs_between_them(
    empty_redis: redis.Redis, store: RedisStore, verb: str
) -> None:
    jobs = [failed_job(f"{i:024x}") for i in range(200)]
    put(empty_redis, "retry", jobs)
    entries = list(Entries(store.client).in_order(Place("retry")))
    actions, counts = Actions(store, lambda: Timestamps.SECONDS), []
    acts = {
        "retry": lambda: actions.retry(entries, 1.0),
        "kill": lambda: actions.kill(entries, time.time()),
        "delete": lambda: actions.delete(entries),
    }
    both = [threading.Thread(target=lambda: counts.append(acts[verb]())) for _ in range(2)]

    for thread in both:
        thread.start()
    for thread in both:
        thread.join(20)

    assert sum(counts) == 200
    assert len(waiting(empty_redis)) == (200 if verb == "retry" else 0)
    assert empty_redis.zcard("dead") == (200 if verb == "kill" else 0)


def test_what_is_no_job_can_be_listed_and_deleted_but_not_run(
    bridge: Bridge, empty_redis: redis.Redis
) -> None:
    empty_redis.zadd("dead", {b'{"class":': 1.0, b"[1]": 2.0})

    assert bridge("jobs", "list", "dead").well().out.count("(no job)") == 2
    assert "0 of 2" in bridge("jobs", "retry", "dead", "--all", "--yes").out
    assert empty_redis.zcard("dead") == 2
    bridge("jobs", "delete", "dead", "--all", "--yes").well()
    assert empty_redis.zcard("dead") == 0


def test_a_job_is_shown_wherever_it_is(bridge: Bridge, ruby: RubyHelper, empty_redis: redis.Redis) -> None:
    jid = ruby.push("EchoJob", 1, "zoë")
    empty_redis.hset("bridge:inflight:h:1:ab", "7", b"1\ndefault\n" + failed_job("9" * 24))

    shown = bridge("jobs", "show", jid, "--json").well().json
    in_hand = bridge("jobs", "show", "9" * 24).well().out

    assert [(one["where"], one["args"]) for one in shown] == [("queue:default", [1, "zoë"])]
    assert "in the hands of h:1:ab" in in_hand
    assert bridge("jobs", "show", "8" * 24).code == 1


# -- push


def test_a_pushed_job_is_one_to_sidekiq(bridge: Bridge, ruby: RubyHelper, empty_redis: redis.Redis) -> None:
    jid = (
        bridge("push", "EchoJob", "1", '"zoë"', "[null]", "--queue", "low", "--set", "retry=5")
        .well()
        .out.strip()
    )

    entry = ruby.queue("low")[0]
    assert (entry["jid"], entry["item"]["args"], entry["item"]["retry"]) == (jid, [1, "zoë", [None]], 5)
    assert abs(entry["enqueued_at"] - time.time()) < 60
    ruby.push("EchoJob")
    assert set(entry["item"]) == set(ruby.queue("default")[0]["item"])


def test_a_job_for_later_stands_in_the_schedule(bridge: Bridge, ruby: RubyHelper) -> None:
    bridge("push", "EchoJob", "--in", "1h30m").well()
    bridge("push", "EchoJob", "--at", "2100-01-01T00:00:00").well()

    soon, late = sorted(ruby.set("schedule"), key=lambda entry: entry["score"])
    assert abs(soon["score"] - time.time() - 5400) < 60
    assert late["score"] == 4102444800.0
    assert "enqueued_at" not in soon["item"]


@pytest.mark.parametrize("name", ["mytasks.report", "send_mail", "myapp.tasks.Report"])
def test_a_native_task_is_pushed_by_the_name_that_celery_gave_it(
    bridge: Bridge, empty_redis: redis.Redis, name: str
) -> None:
    bridge("push", name).well()
    assert json.loads(empty_redis.lindex("queue:default", 0))["class"] == name


@pytest.mark.parametrize("trace", ["a queue", "retry", "metrics of 7", "metrics of 8"])
def test_a_class_that_redis_has_not_seen_deserves_a_word(
    bridge: Bridge, empty_redis: redis.Redis, trace: str
) -> None:
    # MailJob instead of MailerJob: Ruby's NameError, 25 retries, and no word at the push.
    job, now = json.dumps({"class": "MailerJob", "args": [], "jid": "a" * 24}), datetime.now(UTC)
    if trace == "a queue":
        empty_redis.sadd("queues", "low")
        empty_redis.lpush("queue:low", job)
    elif trace == "retry":
        empty_redis.zadd("retry", {job: 4e9})
    else:
        key = keys.metrics_minute_7(now) if trace.endswith("7") else keys.metrics_ten_minutes_8(now)
        empty_redis.hset(key, "MailerJob|p", 1)

    assert "no trace of MailJob is in this Redis: did you mean MailerJob?" in bridge("push", "MailJob").err
    assert "no trace" not in bridge("push", "MailerJob").well().err
    assert "no trace" not in bridge("push", "::MailerJob").well().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("EchoJob", "text"), "is not JSON: write"),
        (("EchoJob", "NaN"), "is not JSON: write"),
        (("echo job",), "is not a class"),
        (("EchoJob", "--queue", "a b"), "cannot be the name of a queue"),
        (("EchoJob", "--in", "soon"), "is not a span of time"),
        (("EchoJob", "--at", "tomorrow"), "is not a time"),
        (("EchoJob", "--in", "1h", "--at", "2100-01-01"), "write one of them"),
        (("EchoJob", "--set", "queue=1"), "write NAME=JSON"),
        (("EchoJob", "--set", "jid=1"), "--set jid: Sidekiq writes it"),
        (("EchoJob", "--set", "expires_in=-1"), "the number of seconds within which the job must begin"),
        (("EchoJob", "--set", "encrypt=true"), "Sidekiq Pro or Enterprise"),
        (("EchoJob", "--set", 'lock="until_executed"'), "sidekiq-unique-jobs takes the lock"),
        (("EchoJob", "--set", "retires=3"), "Sidekiq has no such option. Write retry"),
        (("EchoJob", "--set", "dead=5"), "write true or false"),
        (("EchoJob", "--set", 'retry_queue="a b"'), "write the name of a queue"),
    ],
)
def test_a_push_that_makes_no_sense_is_refused_with_what_to_write(
    bridge: Bridge, empty_redis: redis.Redis, words: tuple[str, ...], said: str
) -> None:
    answer = bridge("push", *words)

    assert answer.code == 2
    assert said in answer.err
    assert empty_redis.dbsize() == 0
