"""Moves: sides by jid, the counts of both sides, and the guard's judgement."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
import uuid
import zlib
from collections.abc import Callable

import pytest

from bridge.execution.shadow import app_name
from bridge.moves import guard, runs
from bridge.moves.comparison import (
    Compared,
    Outcome,
    Unheld,
    compare,
    difference,
    of_call,
    of_told,
    told,
)
from bridge.moves.dry_runs import DryRuns, NotStarted
from bridge.moves.guard import Guard, Seen
from bridge.moves.move import PYTHON, RUBY, Move, percentage
from bridge.moves.runs import BothSides, Counts, Runs
from bridge.moves.shadow import Reported, Shadows
from bridge.moves.side import SideMark
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, Decision, Done, GiveBack, Result, Retry
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.tracked import Tracked
from bridge.sidekiq.store.settlement import Settled
from tests.support.waiting import wait_for

RNG = random.Random(19)
JIDS = {
    "Sidekiq": [RNG.randbytes(12).hex() for _ in range(10_000)],
    "UUID": [str(uuid.UUID(bytes=RNG.randbytes(16))) for _ in range(10_000)],
    "counted": [f"import-2024-{number:05}" for number in range(10_000)],
}


@pytest.mark.parametrize("kind", JIDS)
@pytest.mark.parametrize("percent", [1, 5, 20, 50, 99])
def test_a_percentage_of_ten_thousand_jids_is_met_within_one(kind: str, percent: float) -> None:
    move = Move("ReportJob", percent=percent)
    found = sum(move.side_of(jid, {}) == PYTHON for jid in JIDS[kind]) / 100
    assert abs(found - percent) <= 1


def test_a_jid_that_runs_in_python_does_so_at_every_higher_percentage() -> None:
    for jid in JIDS["Sidekiq"][:500]:
        sides = [Move("J", percent=percent).side_of(jid, {}) for percent in range(101)]
        assert sides == sorted(sides, reverse=True)
        assert (sides[0], sides[100]) == (RUBY, PYTHON)


def test_the_side_follows_from_the_crc32_that_ruby_computes() -> None:
    jid = "b4a577edbccf1d805744efa9"
    share = zlib.crc32(jid.encode()) / 2**32 * 100
    assert Move("J", percent=share - 0.01).side_of(jid, {}) == RUBY
    assert Move("J", percent=share + 0.01).side_of(jid, {}) == PYTHON


def test_a_retry_stays_on_its_side_and_a_class_that_is_back_runs_in_ruby() -> None:
    jid = JIDS["Sidekiq"][0]
    for percent in (0, 50, 100):
        for side in (PYTHON, RUBY):
            assert Move("J", percent=percent).side_of(jid, {"bridge_side": side}) == side
    assert Move("J", is_back=True).side_of(jid, {"bridge_side": PYTHON}) == RUBY


@pytest.mark.parametrize("value", [{}, None, 7, "PYTHON", ["python"]])
def test_a_side_that_makes_no_sense_is_not_heeded(value: object) -> None:
    assert Move("J", percent=100).side_of("a", {"bridge_side": value}) == PYTHON


def active(executions: int) -> dict[str, object]:
    return {"class": "Wrapper", "wrapped": "ReportJob", "args": [{"job_id": "x", "executions": executions}]}


@pytest.mark.parametrize(
    ("fields", "side"),
    [
        ({"retry_count": 0}, RUBY),
        ({"retry_count": None}, PYTHON),
        ({"retry_count": 3, "bridge_side": PYTHON}, PYTHON),
        (active(0), PYTHON),
        (active(1), RUBY),
        ({**active(1), "bridge_side": PYTHON}, PYTHON),
        ({"wrapped": "ReportJob", "args": "odd"}, PYTHON),
    ],
)
def test_a_failure_without_a_mark_was_in_ruby(fields: dict[str, object], side: str) -> None:
    """A Sidekiq process marks nothing, and retry_on pushes a job of another jid."""
    assert Move("ReportJob", percent=100).side_of("a", fields) == side


def test_a_job_without_a_jid_runs_in_ruby() -> None:
    assert Move("J", percent=100).side_of(None, {}) == RUBY


def test_a_shadow_of_the_ruby_side_is_taken_from_the_last_jids_to_move() -> None:
    move = Move("J", percent=90, shadow=5)
    shadowed = [jid for jid in JIDS["Sidekiq"] if move.shadows(jid)]
    assert 400 <= len(shadowed) <= 600
    assert {move.side_of(jid, {}) for jid in shadowed} == {RUBY}


@pytest.mark.parametrize("value", [True, None, "", "x", "nan", "inf", -0.1, 100.1, "101", [], {}])
def test_what_is_not_a_percentage(value: object) -> None:
    with pytest.raises(ValueError, match=r"^(not|could not)"):
        percentage(value)


@pytest.mark.parametrize(("value", "number"), [(0, 0), ("5", 5), ("0.25", 0.25), (100, 100), (33.333, 33.33)])
def test_what_is_a_percentage(value: object, number: float) -> None:
    assert percentage(value) == number


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"[]", b"7", b'{"percent":"x"}', b'{"percent":400}', b'{"since_ms":"x"}', b"[" * 9999]
)
def test_a_move_that_makes_no_sense_is_none(raw: bytes) -> None:
    assert Move.parse("J", raw) is None


def test_a_move_comes_back_from_redis_as_it_was() -> None:
    move = Move("J").at(7, percent=5.0, reason="Grüße").at(8, percent=20.0)
    assert (move.since_ms, move.changed_ms) == (7, 8)
    assert Move.parse("J", move.raw()) == move


def test_counts_begin_at_zero_when_a_class_leaves_ruby_again() -> None:
    back = Move("J").at(7, percent=5.0).at(8, percent=0.0, is_back=True)
    assert back.since_ms == 7
    assert back.at(9, percent=5.0, is_back=False).since_ms == 9


# -- counts


def unit_of(fields: dict[str, object], *, native: bool, ms: float = 1.0) -> UnitOfWork:
    raw = json.dumps({"class": "J", "jid": "a", **fields}).encode()
    unit = UnitOfWork(Delivery("h:1:n", 1, "q", raw, 0), SidekiqJob.parse(raw), started_at=1.0)
    unit.native, unit.run_ms = native, ms
    return unit


def test_runs_are_counted_by_side() -> None:
    counted = Runs()
    counted.follow({"J": Move("J", since_ms=1)})
    for ms in range(1, 101):
        counted.settled(unit_of({}, native=True, ms=float(ms)), Done(), Settled.OK)
    counted.settled(unit_of({}, native=False), Retry(1.0, b"{}"), Settled.OK)
    counted.settled(unit_of({}, native=False), GiveBack(), Settled.OK)
    counted.settled(unit_of({}, native=False), Done(), Settled.FENCED)
    counted.settled(unit_of({"class": "Other"}, native=True), Done(), Settled.OK)

    commands = counted._drain()

    stored = {str(c[2]).encode(): str(c[3]).encode() for c in commands if c[0] == "HINCRBY"}
    both = runs.read(stored)
    assert (both.python.runs, both.python.failures, both.ruby.runs, both.ruby.failures) == (100, 0, 1, 1)
    assert both.python.percentile_ms(0.5) == pytest.approx(50, rel=0.1)
    assert both.python.percentile_ms(0.95) == pytest.approx(95, rel=0.1)
    assert both.ruby.percentile_ms(0.5) is None
    assert {str(c[1]) for c in commands} == {"bridge:moves:runs:1:J"}
    assert counted._drain() == ()
    assert counted.totals()["J"].python.runs == 100


def test_fields_of_another_kind_count_nothing() -> None:
    assert runs.read({b"x": b"1", b"go|runs": b"1", b"ruby|runs": b"-1", b"ruby|x": b"1"}) == BothSides()


@pytest.mark.parametrize(("native", "side"), [(True, "python"), (False, "ruby")])
def test_a_retry_of_a_moving_class_carries_its_side(native: bool, side: str) -> None:
    marks = SideMark()
    unit = unit_of({"args": [1.0]}, native=native)
    assert marks.decided(unit, Retry(1.0, unit.job.raw)) == Retry(1.0, unit.job.raw)
    marks.follow({"J": Move("J")})
    decided = marks.decided(unit, Retry(1.0, unit.job.raw))
    assert isinstance(decided, Retry)
    assert decided.payload == unit.job.raw[:-1] + b',"bridge_side":"%s"}' % side.encode()
    again = marks.decided(unit, decided)
    assert isinstance(again, Retry)
    assert again.payload == decided.payload
    assert marks.decided(unit, Done()) == Done()
    refused = Bury(b"\xff", ran=False)
    unit.started_at = None
    assert marks.decided(unit, refused) is refused


# -- the guard


def judged(python: float, ruby: float, percent: float, jobs: int = 20_000) -> int | None:
    """The number of jobs after which the guard acts, if it does, at these failure rates."""
    rng, watch, move = random.Random(7), Guard(), Move("J", percent=percent, since_ms=1)
    counts = [0, 0, 0, 0]
    for number in range(jobs):
        side = 0 if rng.random() * 100 < percent else 2
        counts[side] += 1
        counts[side + 1] += rng.random() < (python if side == 0 else ruby)
        if number % 100 == 99 and watch.objection(move, Seen(number / 20, *counts)) is not None:
            return number
    return None


@pytest.mark.parametrize("percent", [0.5, 2, 5, 50, 90, 99])
@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.05, 0.1, 0.2])
def test_the_guard_is_silent_while_both_sides_fail_alike(rate: float, percent: float) -> None:
    assert judged(rate, rate, percent) is None


@pytest.mark.parametrize("percent", [5, 50, 100])
@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_the_guard_acts_soon_after_fifty_runs(rate: float, percent: int) -> None:
    after = judged(rate, 0.0, percent)
    assert after is not None
    assert after * percent / 100 <= 250


def test_the_guard_waits_for_fifty_runs() -> None:
    assert not guard.is_worse(Counts(49, 49), Counts(1000, 0))
    assert guard.is_worse(Counts(50, 50), Counts(1000, 0))


def test_old_successes_do_not_hide_a_new_bug() -> None:
    watch, move = Guard(), Move("J", percent=100, since_ms=1)
    assert watch.objection(move, Seen(0, 1_000_000, 0, 1_000_000, 0)) is None
    said = watch.objection(move, Seen(20, 1_000_060, 60, 1_000_000, 0))
    assert said == "60 of 60 runs in Python failed (100.0%), and 0 of 1,000,000 in Ruby (0.0%)"


def test_retries_of_hopeless_jobs_in_a_quiet_hour_do_not_take_a_class_back() -> None:
    """2 % of the jobs never succeed on both sides. Minutes later only their retries run: all of them fail.

    The guard compared these minutes in Python with all of Ruby's runs, and took a healthy class back.
    """
    watch, move = Guard(), Move("J", percent=50, since_ms=1)
    assert watch.objection(move, Seen(0, 0, 0, 0, 0)) is None
    for minute in range(1, 120):
        again = 200 * (minute // 12)
        counts, retries = (10_000 + again, 200 + again), (again, again)
        assert watch.objection(move, Seen(minute * 60, *counts, *counts, *retries, *retries)) is None, minute


def test_hopeless_jobs_of_a_class_that_is_in_python_alone_do_not_take_it_back() -> None:
    watch, move = Guard(), Move("J", percent=100, since_ms=1)
    for minute in range(300):
        again = 200 * (minute // 12)
        seen = Seen(minute * 60, 10_000 + again, 200 + again, 0, 0, again, again)
        assert watch.objection(move, seen) is None, minute


def test_an_outage_that_both_sides_meet_does_not_take_a_class_back() -> None:
    """All jobs failed for three minutes, in Ruby as well: Python's minutes met Ruby's whole history."""
    watch, move = Guard(), Move("J", percent=50, since_ms=1)
    for minute in range(30):
        counts = (10_000 + 100 * minute, 100 * max(0, minute - 26))
        assert watch.objection(move, Seen(minute * 60, *counts, *counts)) is None, minute


def test_a_bug_that_appears_late_takes_the_class_back_beside_one_failure_of_ruby() -> None:
    watch, move = Guard(), Move("J", percent=95, since_ms=1)
    assert watch.objection(move, Seen(0, 10_000, 0, 10_000, 0)) is None
    assert watch.objection(move, Seen(20, 10_200, 60, 10_001, 1)) is not None


def test_few_jobs_that_all_fail_again_and_again_take_the_class_back() -> None:
    seen = Seen(0, 80, 80, 1000, 0, 40, 40)
    assert Guard().objection(Move("J", percent=100, since_ms=1), seen) is not None


def test_retries_are_counted_as_such() -> None:
    counted = Runs()
    counted.follow({"J": Move("J", since_ms=1)})
    for count in (None, 0, 3):
        counted.settled(unit_of({"retry_count": count}, native=True), Retry(1.0, b"{}"), Settled.OK)
    counted.settled(unit_of({"retry_count": 0}, native=True), Done(), Settled.OK)
    stored = {str(c[2]).encode(): str(c[3]).encode() for c in counted._drain() if c[0] == "HINCRBY"}
    found = runs.read(stored).python
    assert (found.runs, found.failures, found.retries, found.retry_failures) == (4, 3, 3, 2)


# -- shadows


class PlannedRuns(DryRuns):
    """Answers in the place of the process of the dry runs."""

    def __init__(self, answer: Callable[[bytes], Compared]) -> None:
        self._answer = answer

    def run(self, payload: bytes, ruby: bytes, seconds: float) -> Compared:
        return self._answer(payload)

    def stop(self) -> None:
        pass


def shadows_of(answer: Callable[[bytes], Compared]) -> Shadows:
    """Of all runs of one class in Ruby."""
    made = Shadows(lambda: None, lambda name: True, PlannedRuns(answer))  # type: ignore[arg-type,return-value]
    made.follow({"J": Move("J", shadow=100.0)})
    return made


def a_run_ends(shadows: Shadows) -> None:
    shadows.settled(unit_of({}, native=False), Done(), Settled.OK)


def test_shadows_that_compute_leave_the_processor_to_the_jobs() -> None:
    """Dry runs one after another kept a core: at 100 % real jobs ran at 60 % of their rate."""
    began: list[float] = []

    def compute(payload: bytes) -> Compared:
        began.append(time.monotonic())
        return Compared(cpu_seconds=0.05)

    shadows = shadows_of(compute)
    for _ in range(20):
        a_run_ends(shadows)
    wait_for(lambda: len(began) >= 4, "some dry runs", 30)
    shadows.stop()
    assert min(later - earlier for earlier, later in itertools.pairwise(began)) > 0.4


def test_a_worker_that_ends_while_its_shadows_start_reports_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It ends the process while that loads the tasks, and said that the process could not load them."""
    ended = threading.Event()

    def start(payload: bytes) -> Compared:
        shadows.follow({})
        ended.set()
        raise NotStarted("ProcessEnded: signal 9")

    shadows = shadows_of(start)
    a_run_ends(shadows)
    assert ended.wait(30)
    assert shadows._thread is not None
    shadows._thread.stop(30)
    assert "cannot load the tasks" not in caplog.text
    assert not shadows._counts


def test_a_return_value_is_not_asked_for_where_the_shadow_would_be_left_out() -> None:
    """Each job of a class with shadows was asked for its value: real jobs ran at two thirds of their rate."""
    gate = threading.Event()

    def wait(payload: bytes) -> Compared:
        gate.wait(30)
        return Compared()

    shadows = shadows_of(wait)
    job = unit_of({}, native=False).job
    assert shadows.wants(job)

    def another_ends() -> bool:
        a_run_ends(shadows)
        return not shadows.wants(job)

    # When jobs end until as many dry runs wait as may
    wait_for(another_ends, "the last place to be taken")
    # Then it stays so while one runs
    assert not shadows.wants(job)
    gate.set()
    shadows.stop()


def test_a_process_that_does_not_start_is_said_once_a_minute_and_leaves_jobs_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(payload: bytes) -> Compared:
        raise NotStarted("ModuleNotFoundError: No module named 'mytasks'")

    shadows = shadows_of(refuse)
    for _ in range(3):
        a_run_ends(shadows)
    wait_for(lambda: "No module named 'mytasks'" in caplog.text, "the sentence")
    shadows.stop()
    assert [(str(c[2]), c[3]) for c in shadows._drain() if c[0] == "HINCRBY"] == [("shadow|left out", 1)]
    assert len(caplog.records) == 1


def test_a_job_with_a_shadow_is_not_tracked() -> None:
    """It entered the hash of its worker before it began, as a tracked job does: it began later."""
    shadows = shadows_of(lambda payload: Compared())
    reported = Reported(Tracked(["T"]), shadows)
    jobs = [unit_of({"class": name}, native=False).job for name in ("J", "T", "Other")]
    assert [reported.flags(job) for job in jobs] == [(False, True), (True, False), (False, False)]
    assert reported.flags(unit_of({"bridge_track": True}, native=False).job) == (True, False)
    shadows.stop()


# -- what differs


JSON = {"id": 7, "tags": ["a", None, True], "price": 2.0}


@pytest.mark.parametrize(
    ("ruby", "python", "what"),
    [
        (Done(Result(b'{"id":7,"tags":["a",null,true],"price":2}')), lambda: JSON, None),
        (Done(Result(b"1")), lambda: 1.0, None),
        (Done(Result(b"1")), lambda: True, "return value"),
        (Done(Result(b"[1]")), lambda: (1,), None),
        (Done(Result(b"null")), lambda: None, None),
        (Done(Result(b"null")), lambda: {1}, "return value"),
        (Done(Result(b"null")), lambda: float("nan"), "return value"),
        # Ruby's value was too large, or JSON cannot hold it: the outcome alone is compared.
        (Done(Result(b"", "it has 70000 bytes")), lambda: {1}, None),
        (Done(), lambda: "x" * 100_000, None),
        (Done(), lambda: 1 / 0, "outcome"),
        (Done(Result(b"[" * 5000)), lambda: 1, None),
        (Retry(1.0, b'{"error_class":"E","error_message":"m"}'), lambda: 1 / 0, None),
        (Retry(1.0, b'{"error_class":"E","error_message":"m"}'), lambda: 1, "outcome"),
        (Bury(b"\xff"), lambda: 1, "outcome"),
    ],
)
def test_outcomes_are_compared_as_json(
    ruby: Decision, python: Callable[[], object], what: str | None
) -> None:
    assert difference(of_told(told(ruby)), of_call(python)) == what


def test_both_values_are_shown_without_arguments_and_bounded() -> None:
    """Arguments of fewer than four characters, such as "nan", stood in the list."""
    ruby, python = Outcome(["nan", 42, "other", True]), Outcome(error="ValueError: bad 'nan' and [42]")
    found = compare(ruby, python, ["nan", 42], show_args=False, cpu_seconds=0.0)
    assert (found.ruby, found.python) == (
        '["***", "***", "other", true]',
        "ValueError: bad '***' and [***]",
    )
    found = compare(Outcome("x" * 9999), Outcome(Unheld("TypeError")), [], show_args=True, cpu_seconds=0.0)
    assert (len(found.ruby), found.python) == (500, "a value that JSON cannot hold: TypeError")


@pytest.mark.parametrize(
    ("words", "environ", "name"),
    [
        (["-A", "proj", "worker"], {}, "proj"),
        (["--app=proj.celery:app", "worker"], {}, "proj.celery:app"),
        (["-Aproj", "worker"], {"APP": "other"}, "proj"),
        (["worker"], {"APP": "other"}, "other"),
        (["worker"], {}, None),
    ],
)
def test_the_application_is_the_one_that_the_worker_was_started_with(
    words: list[str], environ: dict[str, str], name: str | None
) -> None:
    assert app_name(words, environ) == name
