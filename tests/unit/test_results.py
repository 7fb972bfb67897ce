"""Results without Redis: what is encoded, which error comes back, and which effects an end has."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from bridge.errors import JobFailed
from bridge.results import encoding, expiry
from bridge.results.following import FIELD, Following
from bridge.results.raising import error_of
from bridge.results.record import Record
from bridge.results.results import progress_fields, state_fields
from bridge.results.tracking import told
from bridge.sidecar.result import JobResult, done_ms, tracked_done
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome.decision import Bury, Decision, Discard, Done, GiveBack, Interrupt, Result, Retry
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.payload.tracked import Tracked

JID = "0" * 24


def job(**fields: Any) -> SidekiqJob:
    return SidekiqJob.parse(json.dumps({"class": "AddJob", "jid": JID, "args": [], **fields}).encode())


# -- which jobs


@pytest.mark.parametrize(
    ("classes", "fields", "is_tracked"),
    [
        ([], {}, False),
        (["AddJob"], {}, True),
        (["*"], {}, True),
        (["AddJob"], {"bridge_track": False}, False),
        ([], {"bridge_track": True}, True),
        (["Inner"], {"wrapped": "Inner"}, True),
        (["AddJob"], {"jid": None}, False),
    ],
)
def test_which_jobs_are_tracked(classes: list[str], fields: Any, is_tracked: bool) -> None:
    assert (job(**fields) in Tracked(classes)) is is_tracked


# -- what is stored


@pytest.mark.parametrize("value", [1, 2.5, "é", [1, (2,)], {"a": None}, {1: 2}, "x" * 65_534])
def test_a_value_of_json_is_stored(value: Any) -> None:
    found = encoding.encoded(value, JID)
    assert not found.lost
    assert encoding.value_of(found) == json.loads(json.dumps(value))


class Odd:
    def __iter__(self) -> Any:
        raise SystemExit


@pytest.mark.parametrize(
    "value", [object(), math.nan, math.inf, b"x", {1, 2}, {(1,): 2}, "x" * 65_535, Odd(), 1j, [[object()]]]
)
def test_any_other_value_is_lost_and_raises_nothing(value: Any) -> None:
    assert encoding.encoded(value, JID).lost


@pytest.mark.parametrize(
    ("decision", "status", "said"),
    [
        (Done(), "done", {"result": b"null"}),
        (Done(Result(b"7")), "done", {"result": b"7"}),
        (Done(expired=True), "dead", {"error_class": "Bridge::Expired"}),
        (
            Retry(5.0, b'{"error_class":"E","error_message":"m"}'),
            "retry",
            {"error_class": "E", "retry_at": 5.0},
        ),
        (Bury(b'{"error_class":"E","error_message":"m"}'), "dead", {"error_message": "m"}),
        (Bury(b"garbage"), "dead", {"error_message": "Job killed by API"}),
        (Discard(error=("E", "m")), "dead", {"error_class": "E"}),
        (Discard(), "dead", {"error_class": "Bridge::Cancelled"}),
        (GiveBack(), "queued", {}),
        (Interrupt(b"{}"), "queued", {}),
        (GiveBack(unknown_outcome=True), "dead", {"error_class": "Bridge::PoisonPill"}),
    ],
    ids=repr,
)
def test_what_each_decision_says(decision: Decision, status: str, said: dict[str, Any]) -> None:
    found = told(job(), decision)
    assert found[0] == status
    assert found[1].items() >= said.items()


# -- which error


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ValueError", ValueError),
        ("json.decoder.JSONDecodeError", json.JSONDecodeError),
        ("Billing::Declined", JobFailed),
        ("SystemExit", JobFailed),
        ("KeyboardInterrupt", JobFailed),
        ("os.system", JobFailed),
        ("builtins.print", JobFailed),
        ("no.such.Error", JobFailed),
        ("", JobFailed),
        ("x\0y", JobFailed),
    ],
)
def test_the_error_of_a_dead_job(name: str, kind: type[Exception]) -> None:
    error = error_of(Record(JID, "dead", error_class=name, error_message="the message"))
    assert isinstance(error, kind)
    assert str(error) == "the message"


def test_the_error_of_a_revoked_job() -> None:
    assert isinstance(error_of(Record(JID, "dead", error_class="Bridge::Cancelled")), TaskRevokedError)


# -- progress


@pytest.mark.parametrize("wrong", ["1", True, math.nan, [1]])
def test_progress_is_a_number(wrong: Any) -> None:
    with pytest.raises(TypeError, match="write a number"):
        progress_fields(wrong, 2, None)


def test_a_state_that_json_cannot_hold_raises_in_the_task() -> None:
    with pytest.raises(TypeError):
        state_fields("X", object())
    with pytest.raises(ValueError, match="65,536"):
        state_fields("X", "x" * 70_000)


@pytest.mark.parametrize("value", [None, 0, -1, "5", True, math.inf])
def test_a_result_expires(value: Any) -> None:
    with pytest.raises(ValueError, match="number of seconds"):
        expiry.seconds(value)


# -- replies of the sidecar


def reply(**more: Any) -> bytes:
    said = {"status": "done", "jid": JID, "delivery": "h:1:a/7", "duration_ms": 1.5, **more}
    return json.dumps(said, separators=(",", ":")).encode()


DELIVERY = Delivery("h:1:a", 7, "default", job().raw, 1, tracked=True)


def test_a_reply_with_a_result_is_not_a_plain_one() -> None:
    assert done_ms(reply(), DELIVERY) == 1.5
    assert done_ms(reply(result="7"), DELIVERY) is None
    found = tracked_done(reply(result='{"a":1.0}'), DELIVERY, job())
    assert found is not None
    assert found.result.json == b'{"a":1.0}'


def test_an_older_sidecar_reports_none() -> None:
    found = tracked_done(reply(), DELIVERY, job())
    assert found is not None
    assert "upgrade its gem" in found.result.lost


@pytest.mark.parametrize(
    "wrong", [{"result": "{"}, {"result": 7}, {"result": "NaN"}, {"delivery": "h:1:a/8"}]
)
def test_a_result_that_makes_no_sense_is_an_unknown_outcome(wrong: Any) -> None:
    assert tracked_done(reply(**wrong), DELIVERY, job()) is None
    with pytest.raises(Exception, match="makes no sense"):
        JobResult.parse(reply(**{"result": "1", **wrong}), DELIVERY)


def test_a_large_result_of_a_lying_sidecar_is_lost() -> None:
    found = tracked_done(reply(result=json.dumps("x" * 70_000)), DELIVERY, job())
    assert found is not None
    assert found.result.lost


# -- what follows


@pytest.mark.parametrize(
    "garbage", [5, "x", [], {"link": 5}, {"link": [{}]}, {"chain": [None]}, {"error": {}}]
)
def test_garbage_follows_nothing_and_raises_nothing(garbage: Any) -> None:
    following = Following(lambda: Timestamps.SECONDS)
    for decision in (Done(), Bury(b"{}"), GiveBack(unknown_outcome=True), Retry(1.0, b"{}")):
        following.effects(job(**{FIELD: garbage}), decision)
