"""Celery's groups and chords over both languages."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from celery import chord, group
from celery.exceptions import ChordError

from bridge.celery import Bridge, make_app
from bridge.errors import PushRefused
from bridge.settings import load as load_settings
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

JOBS = ROOT / "tests/support/ruby/batch_jobs.rb"
TASKS = "tests.support.chord_tasks"


@pytest.fixture(scope="module")
def chord_stage(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    with Stage(redis_server, ruby_root, database=5, jobs=JOBS) as stage:
        stage.start_sidecar()
        stage.start_worker(module=TASKS)
        yield stage


@pytest.fixture
def stage(chord_stage: Stage) -> Stage:
    chord_stage.reset()
    return chord_stage


@pytest.fixture
def app(stage: Stage) -> Bridge:
    """The application of a process that pushes and asks."""
    return make_app(load_settings({"BRIDGE_REDIS_URL": stage.redis_url}))


def sig(app: Bridge, name: str, *args: Any, **options: Any) -> Any:
    """A signature of a task of this test's worker, or of a Ruby class."""
    name = name if name[0].isupper() else f"{TASKS}.{name}"
    return app.signature(name, args=args, **options)


def test_a_group_gives_the_results_of_all_in_their_order(app: Bridge) -> None:
    result = group(sig(app, "add", i, i) for i in range(10))()
    assert result.get(timeout=10) == [i + i for i in range(10)]
    assert result.successful()


def test_a_group_of_both_languages_is_saved_and_restored(app: Bridge) -> None:
    result = group([sig(app, "add", 1, 2), sig(app, "SumJob", [3, 4])])()
    result.save()
    restored = app.GroupResult.restore(result.id)
    assert restored.get(timeout=10) == [3, 7]
    restored.delete()
    assert app.GroupResult.restore(result.id) is None


def test_a_chord_of_both_languages_hands_its_results_to_a_ruby_class(app: Bridge, stage: Stage) -> None:
    header = [sig(app, "add", 1, 2), sig(app, "SumJob", [3, 4]), sig(app, "mul", 5, 6)]
    result = chord(header)(sig(app, "SumJob", 100))
    assert result.get(timeout=10) == 3 + 7 + 30 + 100
    assert result.parent.get(timeout=1) == [3, 7, 30]
    assert not stage.redis.exists("retry", "dead")


def test_a_chord_keeps_the_order_of_its_header(app: Bridge) -> None:
    result = chord((sig(app, "add", i, 0) for i in range(50)), sig(app, "gather"))()
    assert result.get(timeout=20) == [list(range(50))]


def test_an_immutable_body_takes_no_results(app: Bridge) -> None:
    result = chord([sig(app, "add", 1, 1)])(sig(app, "gather", "alone", immutable=True))
    assert result.get(timeout=10) == ["alone"]


def test_a_group_with_a_task_behind_it_is_a_chord(app: Bridge) -> None:
    result = (group(sig(app, "add", i, i) for i in range(10)) | sig(app, "xsum")).delay()
    assert result.get(timeout=10) == 90


def test_a_chord_without_a_header_runs_its_body(app: Bridge) -> None:
    assert chord([], app=app)(sig(app, "gather")).get(timeout=10) == [[]]


def test_a_chord_whose_header_dies_tells_who_waits_for_the_body(app: Bridge, stage: Stage) -> None:
    header = [sig(app, "add", 4, 4), sig(app, "raising"), sig(app, "add", 8, 8)]
    result = chord(header)(sig(app, "xsum"))
    with pytest.raises(ChordError, match=r"Dependency [\w-]+ raised .*ValueError: something something"):
        app.AsyncResult(result.id).get(timeout=10)
    assert result.state == "FAILURE"
    with pytest.raises(
        ValueError, match="something something"
    ):  # as Celery: an error of its parent comes first
        result.get(timeout=1)


def test_a_header_result_that_cannot_be_stored_is_not_null_to_the_body(app: Bridge, stage: Stage) -> None:
    """A job of a header returned a value that JSON cannot hold, and the body ran with null in its place."""
    result = chord([sig(app, "add", 4, 4), sig(app, "unstorable")])(sig(app, "gather"))
    with pytest.raises(ChordError, match=r"Dependency [\w-]+ raised Bridge::ResultLost: JSON cannot hold it"):
        app.AsyncResult(result.id).get(timeout=10)
    immutable = chord([sig(app, "unstorable")])(sig(app, "gather", "alone", immutable=True))
    assert app.AsyncResult(immutable.id).get(timeout=10) == ["alone"]


def test_the_error_handlers_of_a_body_hear_of_a_death_in_the_header(app: Bridge, stage: Stage) -> None:
    """As in Celery's documentation: ``xsum.s().on_error(on_chord_error.s())``. No handler was called."""
    told = stage.directory / "chord-errors"
    handler = import_module(TASKS).on_chord_error.s()  # the form of a handler is seen where it is declared
    body = sig(app, "xsum").on_error(handler).on_error(sig(app, "alert"))
    result = chord([sig(app, "raising"), sig(app, "add", 8, 8), sig(app, "raising")])(body)
    with pytest.raises(ChordError):
        app.AsyncResult(result.id).get(timeout=10)
    wait_until_equal(lambda: len(told.read_text().splitlines()) if told.exists() else 0, 2, "two handlers")
    stage.wait_done()
    first, second = sorted(told.read_text().splitlines())
    assert first.startswith(f"Task {result.id!r} raised error: ChordError(")
    assert "ValueError: something something" in first
    assert second == f"alert {result.id}"


def test_the_error_handlers_of_a_body_follow_jobs_of_the_header_too_if_celery_is_told_so(
    app: Bridge, stage: Stage
) -> None:
    """The push was refused, and a warning said that the setting has no effect."""
    app.conf.task_allow_error_cb_on_chord_header = True
    work = chord([sig(app, "add", 1, 1), sig(app, "raising")], sig(app, "xsum"))
    work.link_error(sig(app, "alert"))
    result = work()
    with pytest.raises(ChordError):
        app.AsyncResult(result.id).get(timeout=10)
    log = stage.ledger.path.parent / "chord-errors"
    dead = result.parent.children[1].id
    told = [f"alert {dead}", f"alert {result.id}"]
    wait_until_equal(lambda: sorted(log.read_text().splitlines()[-2:]), sorted(told), "the handlers")


def test_a_dead_job_of_a_header_that_a_person_retries_lets_the_body_run(app: Bridge, stage: Stage) -> None:
    result = chord([sig(app, "once"), sig(app, "add", 1, 1)])(sig(app, "gather"))
    with pytest.raises(ChordError):
        app.AsyncResult(result.id).get(timeout=10)
    assert result.parent.results[1].get(timeout=10) == 2
    stage.only("dead")
    stage.ruby.evaluate("Sidekiq::DeadSet.new.retry_all; nil")
    wait_until_equal(lambda: app.AsyncResult(result.id).state, "SUCCESS", "the body to run")
    assert app.AsyncResult(result.id).get(timeout=10) == [["second time", 2]]


# -- chords and groups among the steps of a chain


def test_a_chain_within_a_header_hands_on_the_result_of_its_last_step(app: Bridge) -> None:
    header = [sig(app, "add", 1, 2) | sig(app, "mul", 10), sig(app, "SumJob", [3, 4])]
    assert chord(header)(sig(app, "gather")).get(timeout=10) == [[30, 7]]


def test_a_death_in_a_chain_within_a_header_is_a_chord_error(app: Bridge) -> None:
    header = [sig(app, "raising") | sig(app, "mul", 10) | sig(app, "add", 1), sig(app, "add", 1, 1)]
    result = chord(header)(sig(app, "gather"))
    with pytest.raises(ChordError, match=r"Dependency [\w-]+ raised .*ValueError: something something"):
        app.AsyncResult(result.id).get(timeout=10)


def test_the_body_of_a_chord_may_be_a_chain(app: Bridge) -> None:
    header = [sig(app, "add", i, i) for i in range(10)]
    assert (
        chord(header)(sig(app, "xsum") | sig(app, "mul", 2) | sig(app, "SumJobOf", 1)).get(timeout=10) == 181
    )


def test_a_group_at_the_end_of_a_chain_gets_the_result(app: Bridge) -> None:
    """``(add.s(4, 4) | group(add.s(i) for i in range(10)))()``."""
    result = (sig(app, "add", 4, 4) | group(sig(app, "add", i) for i in range(5)))()
    assert result.get(timeout=10) == [8 + i for i in range(5)]


def test_a_chord_amid_a_chain(app: Bridge) -> None:
    """``(add.s(4, 4) | group(add.s(i) for i in range(3)) | xsum.s() | mul.s(2))()``."""
    steps = (
        sig(app, "add", 4, 4)
        | group(sig(app, "add", i) for i in range(3))
        | sig(app, "xsum")
        | sig(app, "mul", 2)
    )
    assert steps().get(timeout=10) == (8 + 9 + 10) * 2


def test_two_chords_one_after_the_other(app: Bridge) -> None:
    """``(group(...) | xsum.s() | group(...) | xsum.s())()``."""
    steps = (
        group(sig(app, "add", i, i) for i in range(3))
        | sig(app, "xsum")
        | group(sig(app, "add", i) for i in range(2))
        | sig(app, "xsum")
    )
    assert steps().get(timeout=10) == 6 + 7


def test_a_group_behind_a_group_is_a_chord_whose_body_is_a_group(app: Bridge) -> None:
    """``(group(add, add) | group(xsum, xsum))()``."""
    result = (
        group(sig(app, "add", i, i) for i in range(3)) | group([sig(app, "xsum"), sig(app, "gather")])
    )()
    assert result.get(timeout=10) == [6, [[0, 2, 4]]]


def test_a_chord_within_a_header(app: Bridge) -> None:
    inner = chord([sig(app, "add", 1, 1), sig(app, "add", 2, 2)], sig(app, "xsum"))
    assert chord([inner, sig(app, "add", 5, 5)])(sig(app, "gather")).get(timeout=10) == [[6, 10]]


def test_a_link_may_be_a_group(app: Bridge, stage: Stage) -> None:
    linked = group([sig(app, "add", 10), sig(app, "add", 20)])
    result = sig(app, "add", 1, 1).apply_async(link=linked)
    assert result.get(timeout=10) == 2
    wait_until_equal(lambda: stage.counters(), (3, 0), "the group to be done")


@pytest.mark.parametrize(
    "make",
    [
        lambda app: sig(app, "add").type.map([1, 2]),
        lambda app: sig(app, "add").type.starmap([(1, 2)]),
        lambda app: sig(app, "add").type.chunks([(1, 2)], 1),
    ],
    ids=["map", "starmap", "chunks"],
)
def test_what_celery_runs_in_one_task_is_refused_with_what_to_write(app: Bridge, make: Any) -> None:
    """The sentence spoke of the keyword arguments it and task, which the user had not written."""
    import_module(TASKS)
    with pytest.raises(PushRefused, match=r"map.*: write group\(add\.s\("):
        make(app).apply_async()


def test_a_tracked_task_that_replaces_itself_is_refused(app: Bridge, stage: Stage) -> None:
    """``get`` gave None, and the body of a chord got null, before the job in its place had run."""
    with pytest.raises(PushRefused, match=r"self\.replace would lose the result"):
        sig(app, "replacing").delay().get(timeout=10)


def test_a_job_of_the_header_that_raises_ignore_gives_null(app: Bridge) -> None:
    header = [sig(app, "add", 1, 2), sig(app, "ignoring")]
    assert chord(header, sig(app, "same"))().get(timeout=15) == [3, None]
