"""What a limit may say, and the key by which it counts."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from bridge.limits import declaration
from bridge.limits.gates import Limits, job_id
from bridge.limits.key_path import KeyPath
from bridge.sidekiq.payload.job import SidekiqJob


def job(**fields: Any) -> SidekiqJob:
    return SidekiqJob.parse(json.dumps({"class": "SyncJob", "jid": "1", "args": [], **fields}).encode())


def key(path: str, **fields: Any) -> str | None:
    return KeyPath.parse(path).key(job(**fields))


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ({"class": "SyncJob", "concurrency": 3}, "SyncJob"),
        ({"class": "SyncJob", "concurrency": 3, "key": "args.0"}, "SyncJob/args.0"),
        ({"queue": "mailers", "concurrency": 5}, "queue=mailers"),
        ({"class": "A::B", "queue": "low", "rate": "10/s"}, "A::B,queue=low"),
        ({"class": "ApiJob", "rate": "10/s", "name": "api"}, "api"),
    ],
)
def test_a_limit_has_a_name_of_what_it_counts(entry: dict[str, Any], name: str) -> None:
    assert declaration.limit(entry).name == name


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [
        ("10/s", 0.1),
        ("100/m", 0.6),
        ("1/5s", 5.0),
        ("3600/hour", 1.0),
        ("2 / 1 minutes", 30.0),
        ("1/d", 86_400.0),
    ],
)
def test_a_rate_is_the_time_between_two_starts(rate: str, seconds: float) -> None:
    assert declaration.pace_of(rate)[1] == pytest.approx(seconds)


NOTED = {"10/s": 11, "1/s": 2, "20/s": 21, "100/s": 105, "900/s": 945, "100/m": 101, "600/20m": 601}
NOTED |= {"1/5s": 0, "25/m": 25 + 1, "24/m": 0, "1000/s": 0, "5000/h": 0}


@pytest.mark.parametrize(("rate", "noted"), NOTED.items())
def test_a_rate_notes_as_many_starts_as_keep_its_window(rate: str, noted: int) -> None:
    """``sidecar/spec/limits_spec.rb`` has the same table."""
    (limit,) = declaration.limits([{"class": "A", "rate": rate}])
    early, found = limit.script_args[2].split()
    assert int(found) == noted
    assert float(early) == pytest.approx(max(0.05, 0.8 * float(limit.script_args[1])))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("SyncJob", "limits are a list"),
        (["SyncJob"], "limit 1: a limit is an object"),
        ([{"concurrency": 3}], "limit 1: class or queue is missing"),
        ([{"class": "SyncJob"}], "limit 1: concurrency or rate is missing"),
        (
            [{"class": "SyncJob", "concurrency": 0}],
            "limit 1: concurrency must be a whole number from 1, this is 0",
        ),
        ([{"class": "SyncJob", "concurrency": -1}], "this is -1"),
        ([{"class": "SyncJob", "concurrency": True}], "this is True"),
        ([{"class": "SyncJob", "concurrency": "3"}], "this is '3'"),
        ([{"class": "SyncJob", "rate": "fast"}], "'fast' is not a rate"),
        ([{"class": "SyncJob", "rate": "0/s"}], "'0/s' is not a rate"),
        ([{"class": "SyncJob", "rate": 10}], "10 is not a rate"),
        ([{"class": "SyncJob", "rate": "1/0s"}], "is not a rate"),
        # Accepted once: an interval of 0, "milliseconds" taken for minutes, and digits that Ruby refuses
        ([{"class": "SyncJob", "rate": "1/00s"}], "is not a rate"),
        ([{"class": "SyncJob", "rate": "10/ms"}], "is not a rate"),
        ([{"class": "SyncJob", "rate": "\u0663/s"}], "is not a rate"),
        ([{"class": "SyncJob", "concurrency": 1, "key": "args.\u0663"}], "is not a key path"),
        ([{"class": "SyncJob", "concurrency": 1, "key": "args"}], "'args' is not a key path"),
        ([{"class": "SyncJob", "concurrency": 1, "key": "args.-1"}], "is not a key path"),
        ([{"class": "SyncJob", "concurrency": 1, "kay": "args.0"}], "'kay' is not a field of a limit"),
        ([{"class": 5, "concurrency": 1}], "class must be a text"),
        ([{"queue": "two words", "concurrency": 1}], "is not a queue's name"),
        (
            [{"class": "A", "rate": "1/s"}, {"class": "A", "concurrency": 1}],
            "limits 1 and 2 are both called 'A'",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_in_one_sentence(value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        declaration.limits(value)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("path", "fields", "text"),
    [
        ("args.0", {"args": [42]}, "42"),
        ("args.0", {"args": ["42"]}, "42"),
        ("args.1", {"args": [42]}, None),
        ("args.0", {"args": [None]}, "null"),
        ("args.0", {"args": [1.5]}, "1.5"),
        ("args.0", {"args": [True]}, "true"),
        ("args.0", {"args": [[1, "a"]]}, "[1,a]"),
        ("args.0", {"args": [{"b": 1, "a": 2}]}, "{a:2,b:1}"),
        ("args.0.shop.id", {"args": [{"shop": {"id": 7}}]}, "7"),
        ("args.0.shop", {"args": ["none"]}, None),
        ("args.0", {"args": ["x" * 101]}, "sha1:b4c19a26c61d4ec1456a6d79ae0b2f0c4b5d6e0a"),
        ("tenant", {"tenant": "acme"}, "acme"),
        ("tenant.id", {"tenant": {"id": 3}}, "3"),
        ("cattr.user_id", {"cattr": {"user_id": 9}}, "9"),
        ("cattr.user_id", {"cattr": {"other": 1}, "cattr_1": {"user_id": 9}}, "9"),
        ("cattr.user_id", {"cattr": [["user_id", 9]]}, "9"),
        ("cattr.user_id", {"cattr": [[{"_aj_serialized": "S", "value": "user_id"}, 9]]}, "9"),
        ("args.0", {"wrapped": "J", "class": "Sidekiq::ActiveJob::Wrapper",
                    "args": [{"arguments": [{"_aj_globalid": "gid://app/User/1"}]}]}, "gid://app/User/1"),
    ],
)  # fmt: skip
def test_a_key_is_the_value_at_its_path(path: str, fields: dict[str, Any], text: str | None) -> None:
    found = key(path, **fields)
    if text is not None and text.startswith("sha1:"):
        assert found is not None
        assert found.startswith("sha1:")
        assert len(found) == 45
    else:
        assert found == text


@pytest.mark.parametrize("value", ["\ud800", ["a", "\udfff"], {"\ud83d": 1}], ids=["text", "list", "name"])
def test_a_key_that_utf_8_cannot_hold_is_a_digest(value: Any) -> None:
    """Redis' client could not send it, so all jobs that were claimed with it waited, again and again."""
    limits = Limits(declaration.limits([{"class": "SyncJob", "concurrency": 1, "key": "args.0"}]))
    (gate,) = limits.gates(job(args=[value]), "default")
    assert gate.key.startswith("sha1:")
    assert all(name.encode() for name in gate.keys)


def test_the_key_of_a_large_job_is_read_from_all_of_it() -> None:
    """The worker reads an outline of a large Ruby job, without its arguments."""
    raw = json.dumps(
        {"class": "SyncJob", "args": [7, [{"n": n} for n in range(1000)]], "jid": "1"}, separators=(",", ":")
    )
    claimed = SidekiqJob.claimed(raw.encode())
    assert claimed.is_outline
    assert KeyPath.parse("args.0").key(claimed) == "7"


def test_jobs_without_the_key_count_together_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(declaration.limits([{"class": "SyncJob", "concurrency": 1, "key": "args.0"}]))
    with caplog.at_level(logging.WARNING):
        found = [limits.gates(job(), "default") for _ in range(3)]
    assert {gate.key for gates in found for gate in gates} == {"(none)"}
    assert len(caplog.records) == 1
    assert "nothing at args.0" in caplog.text


def test_a_job_brings_its_own_limit_along() -> None:
    limits = Limits()
    mine = job(bridge_limit={"concurrency": 3, "key": "args.0"}, args=[5])
    assert limits.concerns(mine, "default")
    (gate,) = limits.gates(mine, "default")
    assert (gate.line, gate.limit.concurrency) == ("SyncJob/args.0:5", 3)
    assert not limits.concerns(job(), "default")


def test_a_declared_limit_beats_that_of_the_job_under_the_same_name() -> None:
    limits = Limits(declaration.limits([{"class": "SyncJob", "concurrency": 1}]))
    gates = limits.gates(job(bridge_limit=[{"concurrency": 3}, {"rate": "1/s", "key": "jid"}]), "default")
    assert [(gate.line, gate.limit.concurrency) for gate in gates] == [
        ("SyncJob:all", 1),
        ("SyncJob/jid:1", None),
    ]


@pytest.mark.parametrize(
    "wrong", [0, "x", {"concurrency": 0}, {"concurrancy": 1}, {"rate": []}, [[1]], {"key": "args.0"}]
)
def test_a_wrong_limit_of_a_job_costs_the_job_nothing_and_is_said_once(
    wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits()
    with caplog.at_level(logging.ERROR):
        assert limits.gates(job(bridge_limit=wrong), "default") == ()
        assert limits.gates(job(bridge_limit=wrong), "default") == ()
    assert len(caplog.records) == 1
    assert "SyncJob runs without its own limit" in caplog.text


def test_a_job_without_a_plain_jid_is_known_by_its_bytes() -> None:
    assert job_id(job(jid="abc-1")) == "abc-1"
    assert job_id(job(jid='a"b')).startswith("sha1:")
    assert job_id(job(jid=None)) == job_id(job(jid=None))
