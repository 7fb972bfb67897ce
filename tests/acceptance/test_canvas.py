"""Celery's link, link_error and chain: the next job is pushed by the settlement of the one before."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain

from bridge import errors
from bridge.celery import Bridge
from tests.acceptance.test_results import client
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

TASKS = "tests.support.tracked_tasks"


@pytest.fixture(scope="module")
def running(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    with Stage(redis_server, ruby_root, database=7) as made:
        made.start_worker(module=TASKS)
        yield made


@pytest.fixture
def stage(running: Stage) -> Stage:
    running.reset()
    return running


@pytest.fixture
def app(stage: Stage) -> Bridge:
    """A pushing process that has none of the tasks: it knows their names."""
    return client(stage)


def add(app: Bridge, *args: Any, **options: Any) -> Any:
    return app.signature("proj.add", args=args, **options)


def mul(app: Bridge, *args: Any) -> Any:
    return app.signature("proj.mul", args=args)


def queued(stage: Stage, name: str = "default") -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in stage.redis.lrange(f"queue:{name}", 0, -1)]


# -- the examples of Celery's documentation


def test_the_chain_of_celerys_first_page(app: Bridge) -> None:
    """``chain(add.s(4, 4) | mul.s(8) | mul.s(10))().get()`` is 640."""
    assert chain(add(app, 4, 4), mul(app, 8), mul(app, 10), app=app)().get(timeout=15) == 640
    assert (add(app, 4, 4) | mul(app, 8) | mul(app, 10))().get(timeout=15) == 640


def test_the_parents_of_a_chain_have_results_of_their_own(app: Bridge) -> None:
    """``res.parent.get()`` is 64, ``res.parent.parent.get()`` is 8."""
    result = (add(app, 4, 4) | mul(app, 8) | mul(app, 10))()
    assert result.get(timeout=15) == 640
    assert result.parent.get(timeout=5) == 64
    assert result.parent.parent.get(timeout=5) == 8
    assert [value for _, value in result.collect(timeout=5)] == [640]


def test_immutable_signatures_get_no_result(app: Bridge) -> None:
    """``(add.si(2, 2) | add.si(4, 4) | add.si(8, 8))()``."""
    result = (
        add(app, 2, 2, immutable=True) | add(app, 4, 4, immutable=True) | add(app, 8, 8, immutable=True)
    )()
    assert result.get(timeout=15) == 16
    assert result.parent.get(timeout=5) == 8


def test_a_link_gets_the_result_as_its_first_argument(stage: Stage, app: Bridge) -> None:
    """``add.apply_async((2, 2), link=add.s(16))``: 4 + 16."""
    link = add(app, 16).set(ignore_result=False)
    link.freeze()
    app.send_task("proj.add", args=(2, 2), link=link)
    assert app.AsyncResult(link.id).get(timeout=15) == 20


def test_a_result_knows_its_children(stage: Stage, app: Bridge) -> None:
    """``res = add.apply_async((2, 2), link=mul.s(16))``: ``res.children``, and ``list(res.collect())``."""
    result = app.send_task("proj.add", args=(2, 2), link=mul(app, 16))
    assert result.get(timeout=15) == 4
    (child,) = result.children
    assert child.get(timeout=15) == 64
    assert [value for _, value in result.collect(timeout=15)] == [4, 64]
    chained = (add(app, 2, 2) | mul(app, 2))()
    assert chained.get(timeout=15) == 8
    assert chained.parent.children == [chained]


def test_links_of_links_run(stage: Stage, app: Bridge) -> None:
    """``s = add.s(2, 2); s.link(mul.s(4)); s.link(log_result.s())``."""
    last = mul(app, 3).set(ignore_result=False)
    last.freeze()
    first = add(app, 2, 2)
    first.link(mul(app, 4))
    middle = add(app, 1)
    middle.link(last)
    first.link(middle)
    first.apply_async()
    assert app.AsyncResult(last.id).get(timeout=15) == 15


def test_an_error_handler_of_celerys_form_is_called(stage: Stage) -> None:
    """``link_error=error_handler.s()``: request, exception, traceback."""
    from tests.support.tracked_tasks import error_handler

    app = client(stage)
    sender = error_handler.app
    step = {"task": "proj.error_handler", "args": (), "kwargs": {}, "options": {}, "immutable": False}
    app.tasks.register(error_handler)
    jid = app.send_task("FailingJob", args=["value", "bad"], retry=False, link_error=[step]).id
    stage.ledger.wait_for("handled", jid)
    assert stage.ledger.args(jid, "handled")[1] == "ValueError"
    assert sender is not app


def test_another_error_handler_gets_the_jid(stage: Stage, app: Bridge) -> None:
    handler = app.signature("proj.on_failure")
    handler.freeze()
    jid = app.send_task("FailingJob", args=["value", "bad"], link_error=handler).id
    stage.ledger.wait_for("told", handler.id)
    assert stage.ledger.args(handler.id, "told") == [jid]


# -- what goes wrong


def test_the_end_of_a_chain_hears_of_a_death_before_it(stage: Stage, app: Bridge) -> None:
    failing = app.signature("FailingJob", args=["key", "lost"], immutable=True)
    result = (add(app, 1, 1) | failing | mul(app, 2) | mul(app, 3))()
    with pytest.raises(KeyError, match="lost"):
        app.AsyncResult(result.id).get(timeout=15)
    with pytest.raises(KeyError, match="lost"):
        result.get(timeout=15)
    assert app.AsyncResult(result.id).state == "FAILURE"


def test_the_handler_of_a_chain_runs_once(stage: Stage, app: Bridge) -> None:
    handler = app.signature("proj.on_failure")
    failing = app.signature("FailingJob", args=["value", "x"], immutable=True)
    steps = chain(add(app, 1, 1), failing, mul(app, 2), app=app)
    steps.apply_async(link_error=handler)
    stage.wait_done()
    wait_until_equal(lambda: stage.ledger.count("told"), 1, "the handler")
    stage.wait_done()
    assert stage.ledger.count("told") == 1


def test_a_result_that_cannot_be_passed_on_breaks_the_chain(stage: Stage, app: Bridge) -> None:
    odd = app.signature("OddJob", args=["object"])
    result = (odd | mul(app, 2))()
    with pytest.raises(errors.JobFailed, match="cannot be passed on") as raised:
        app.AsyncResult(result.id).get(timeout=15)
    assert raised.type.__name__ == "Bridge::ResultLost"
    assert stage.counters() == (1, 0)


def test_a_retry_pushes_nothing_and_the_success_after_it_does(stage: Stage, app: Bridge) -> None:
    flaky = app.signature("FlakyJob")
    result = (flaky | add(app, " it was"))()
    stage.only("retry")
    assert not stage.queued
    stage.make_due("retry")
    assert app.AsyncResult(result.id).get(timeout=15) == "the second time it was"


def test_a_revoked_step_ends_the_chain(stage: Stage, app: Bridge) -> None:
    first = add(app, 1, 1).set(countdown=3600)
    result = (first | mul(app, 2))()
    app.control.revoke(result.parent.id)
    with pytest.raises(Exception, match="revoke"):
        app.AsyncResult(result.id).get(timeout=15)


def test_options_of_a_step_are_heeded(stage: Stage, app: Bridge) -> None:
    later = mul(app, 2).set(countdown=1000, queue="low", sidekiq_options={"retry": 3, "tags": ["x"]})
    (add(app, 1, 1) | later).apply_async()
    entry = stage.only("schedule")
    assert (entry["class"], entry["args"], entry["queue"], entry["retry"]) == ("proj.mul", [2, 2], "low", 3)
    assert entry["tags"] == ["x"]
    assert 900 < stage.score("schedule") - time.time() < 1001


def test_a_chain_of_100_steps_runs_in_order(app: Bridge) -> None:
    steps = [add(app, 0, 0), *(add(app, 1) for _ in range(99))]
    assert chain(*steps, app=app)().get(timeout=60) == 99


def test_a_ruby_class_is_a_step_as_any_other(stage: Stage, app: Bridge) -> None:
    (add(app, 1, 1) | app.signature("StoreJob", args=["here"], options={"queue": "ruby"}))()
    wait_until_equal(lambda: stage.redis.llen("queue:ruby"), 1, "the job of the Ruby class")
    (found,) = queued(stage, "ruby")
    assert (found["class"], found["args"], found["retry"]) == ("StoreJob", [2, "here"], True)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"link": {"task": "proj.add", "kwargs": {"x": 1}}}, "keyword arguments"),
        ({"link": {"task": "proj.add", "args": [object()]}}, "is a object"),
        ({"chain": [{"task": "proj.add", "options": {"priority": 3}}]}, "priority"),
    ],
)
def test_a_step_that_no_job_can_be_is_refused_and_nothing_is_pushed(
    stage: Stage, app: Bridge, what: Any, said: str
) -> None:
    with pytest.raises(errors.PushRefused, match=said):
        app.send_task("proj.add", args=[1, 1], **what)
    assert stage.counters() == (0, 0)


def test_garbage_in_the_field_settles_the_job(stage: Stage) -> None:
    stage.push_job({"class": "proj.add", "args": [1, 1], "bridge_next": {"link": [5], "chain": "x"}})
    stage.push_job({"class": "proj.add", "args": [1, 1], "bridge_next": "x"})
    stage.wait_counters(2, 0)
    assert stage.worker is not None
    assert "the field bridge_next cannot be read" in stage.worker.log


def test_a_queue_of_a_wrong_type_loses_no_step(stage: Stage, app: Bridge) -> None:
    stage.redis.set("queue:odd", "x")
    (add(app, 1, 1) | mul(app, 2).set(queue="odd"))()
    assert stage.only("schedule")["class"] == "proj.mul"


@pytest.mark.parametrize("immutable", [False, True])
def test_a_step_that_raises_ignore_ends_the_chain(stage: Stage, app: Bridge, immutable: bool) -> None:
    """The chain went on with null. As in Celery nothing follows, no error handler either."""
    ignored = app.signature("proj.ignore", immutable=immutable)
    ignored.link_error(add(app, 1, 1, immutable=True))
    last = chain(ignored, add(app, 1, 2, immutable=immutable), mul(app, 3), app=app)()
    with pytest.raises(errors.JobFailed, match=r"proj\.ignore .* raised Ignore") as raised:
        last.get(timeout=15)
    assert raised.type.__name__ == "Bridge::Ignored"
    with pytest.raises(errors.JobFailed, match="raised Ignore"):
        last.parent.get(timeout=15)
    assert last.parent.parent.get(timeout=15) is None
    assert last.parent.parent.children in (None, [])
    stage.wait_counters(1, 0)
    assert not queued(stage)
