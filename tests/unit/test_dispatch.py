from __future__ import annotations

import gc
import json
import logging
import os
import weakref
from collections.abc import Callable, Iterator
from socket import gethostname
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from celery.app import trace
from celery.exceptions import WorkerShutdown
from celery.worker import state, strategy

from bridge.celery import app
from bridge.execution.call import apply
from bridge.execution.cancellation import IDLE_SECONDS
from bridge.execution.hand_over import hand_over
from bridge.execution.outcomes import Settle
from bridge.execution.request import SidekiqRequest
from bridge.execution.time_limits import Limits
from bridge.fast_path import dispatch, native
from bridge.sidekiq.outcome.decision import Bury, Done, GiveBack, Retry
from tests.support.unstarted_worker import Worker


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = [(logger, logger.level) for logger in (trace.logger, strategy.logger)]
    for logger, _ in before:
        logger.setLevel(logging.WARNING)
    yield
    for logger, level in before:
        logger.setLevel(level)
    state.reset_state()


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_a_native_job_sees_the_same_request_as_on_celerys_way(worker: Worker) -> None:
    native.run(worker.plain("SeeJob", 7))
    request = worker.plain("SeeJob", 7)
    celerys_args = (
        request.type,
        request.id,
        request.request_dict,
        request.body,
        request.content_type,
        request.content_encoding,
    )
    apply(request.call()._replace(args=celerys_args))

    short, celerys = worker.seen
    embedded = ("callbacks", "errbacks", "chain", "chord", "reply_to", "is_eager")
    assert not any(celerys.pop(name) for name in embedded)
    # In a worker, whose tracer knows its name, these are the same.
    assert (short.pop("hostname"), celerys.pop("hostname")) == ("me@here", gethostname())
    assert short == celerys


def test_a_job_that_was_done_is_settled_and_forgotten(worker: Worker) -> None:
    request = worker.plain("SeeJob")
    native.run(request)
    assert worker.decisions == [Done()]
    assert not state.requests
    assert not state.active_requests
    assert state.total_count["SeeJob"] == 1


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    """What a receiver of ``task_retry`` hears."""
    heard: list[dict[str, Any]] = []

    def receiver(**fields: Any) -> None:
        heard.append(fields)

    signals.task_retry.connect(receiver, weak=False)
    yield heard
    signals.task_retry.disconnect(receiver)


def run_broken(worker: Worker) -> bool:
    """Runs a job that is to be retried. Returns whether Celery's tracer has ended it."""
    request = worker.plain("BreakJob")
    traced: list[Any] = []
    request.call = lambda *args, **more: traced.append(1) or type(request).call(request, *args, **more)
    native.run(request)
    assert worker.runs == 1
    [decision] = worker.decisions
    assert isinstance(decision, Retry)
    fields = json.loads(decision.payload)
    assert (fields["error_class"], fields["error_message"]) == ("ValueError", "broken on purpose")
    assert not state.requests
    return bool(traced)


def test_a_job_that_is_to_be_retried_is_settled_without_celerys_tracer(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """The tracer and Celery's request cost more than the rest of the failure."""
    assert not run_broken(worker)
    assert [record.ctx["error_message"] for record in caplog.records] == ["broken on purpose"]


def test_a_receiver_of_task_retry_hears_of_a_retry_without_a_second_run(
    worker: Worker, told: list[dict[str, Any]]
) -> None:
    assert run_broken(worker)
    assert [str(each["reason"].exc) for each in told] == ["broken on purpose"]


def test_an_on_retry_of_the_task_is_called_without_a_second_run(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    task = worker.app.tasks["BreakJob"]
    hook = lambda self, error, *more, **named: seen.append(error)  # noqa: E731
    monkeypatch.setattr(type(task), "on_retry", hook, raising=False)
    assert run_broken(worker)
    assert [str(each) for each in seen] == ["broken on purpose"]


def test_a_listener_to_events_gets_a_retry_from_celerys_tracer(worker: Worker) -> None:
    request = worker.plain("BreakJob")
    worker.bridge.context.listeners = 1
    assert not request.retried(ValueError("no luck"))
    assert worker.decisions == []


class Heavy(Exception):
    """Stands for much that a job has in its hands."""


def raises_its_variable(task: Any, heavy: Heavy) -> None:
    raise heavy


def asks(task: Any, heavy: Heavy) -> None:
    task.retry(countdown=5)


def asks_for_an_error(task: Any, heavy: Heavy) -> None:
    try:
        raise heavy
    except Heavy as error:
        raise task.retry(exc=error)  # noqa: B904


def asks_for_an_earlier_error(task: Any, heavy: Heavy) -> None:
    failed: list[Heavy] = []
    try:
        raise heavy
    except Heavy as error:
        failed.append(error)
    task.retry(exc=failed[0])


def has_a_cause_and_a_context(task: Any, heavy: Heavy) -> None:
    try:
        raise heavy
    except Heavy:
        raise ValueError("v") from TypeError("t")


def raises_a_group(task: Any, heavy: Heavy) -> None:
    failed: list[Exception] = []
    for _ in range(2):
        try:
            raise heavy
        except Heavy as error:
            failed.append(error)
    raise ExceptionGroup("both", failed)


def raises_an_error_that_cannot_be_told_of(task: Any, heavy: Heavy) -> None:
    class Untold(Exception):
        def __str__(self) -> str:
            raise SystemExit("no text")

    error = Untold(heavy)
    raise error


@pytest.mark.parametrize(
    "body",
    [
        raises_its_variable,
        asks,
        asks_for_an_error,
        asks_for_an_earlier_error,
        has_a_cause_and_a_context,
        raises_a_group,
        raises_an_error_that_cannot_be_told_of,
    ],
)
def test_what_a_retried_job_had_in_its_hands_is_let_go_without_the_garbage_collector(
    worker: Worker, body: Callable[[Any, Heavy], None]
) -> None:
    """The code, or ``self.retry``, has the error in a variable: the error's traceback leads back to itself.

    Only an error that the code raised by a variable's name was let go at first. ``self.retry``, groups, and
    errors with a cause and a context were not.
    """
    seen: list[weakref.ref[Any]] = []

    @worker.app.task(name="HeavyJob", shared=False, bind=True)
    def carry(task: Any, number: int) -> None:
        heavy = Heavy()
        seen.append(weakref.ref(heavy))
        body(task, heavy)

    gc.disable()
    try:
        native.run(worker.plain("HeavyJob"))
        assert seen[0]() is None
        assert isinstance(worker.decisions[0], Retry)
    finally:
        gc.enable()


def test_an_error_whose_cause_has_no_truth_is_logged_and_settled_once(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """Python asks an error for its truth where it writes out the traceback, and so did the bridge."""

    class NoTruth(Exception):
        def __bool__(self) -> bool:
            raise RuntimeError("no truth")

    @worker.app.task(name="NoTruthJob", shared=False)
    def fail(number: int) -> None:
        raise ValueError("no luck") from NoTruth("c")

    native.run(worker.plain("NoTruthJob"))
    assert [record.getMessage() for record in caplog.records] == ["the attempt failed and will be retried"]
    assert len(worker.decisions) == 1


def test_the_last_failure_goes_through_celerys_tracer(worker: Worker) -> None:
    @worker.app.task(name="BuryJob", shared=False, sidekiq_options={"retry": 0})
    def bury(number: int) -> None:
        raise ValueError("no luck")

    native.run(worker.plain("BuryJob"))
    [decision] = worker.decisions
    assert isinstance(decision, Bury)


def test_a_task_that_ends_the_worker_costs_neither_slot_nor_job(worker: Worker) -> None:
    """``WorkerShutdown`` passes Celery's tracer: it was logged, and the job stayed held."""

    @worker.app.task(name="LeaveJob", shared=False)
    def leave(number: int) -> None:
        raise WorkerShutdown

    native.run(worker.plain("LeaveJob"))
    assert worker.decisions == [GiveBack(unknown_outcome=True)]
    assert not worker.bridge.fetcher.in_flight.held
    assert not state.requests


def test_a_job_that_was_given_back_before_a_thread_was_free_is_not_begun(worker: Worker) -> None:
    request = worker.plain("BreakJob")
    worker.bridge.fetcher.in_flight.give_back_all([request.unit])
    native.run(request)
    assert worker.runs == 0
    assert worker.decisions == [GiveBack()]
    assert not state.requests


def test_a_job_that_waits_for_a_thread_is_found_by_a_control_command(worker: Worker) -> None:
    request = worker.plain("SeeJob")
    assert state.requests == {request.id: request}
    assert not state.active_requests


def test_a_limit_that_no_thread_can_wait_for_does_not_end_the_watch(worker: Worker) -> None:
    """One limit of 10,000,000,000 s ended the thread that ends jobs, for all of them."""
    worker.bridge.cancellation.limits.set_default(Limits(1e10))
    worker.plain("SeeJob").begin()
    assert worker.bridge.cancellation.round() <= IDLE_SECONDS


def test_what_was_told_to_end_is_forgotten_when_it_is_settled(worker: Worker) -> None:
    cancellation = worker.bridge.cancellation
    request = worker.plain("SeeJob")
    request.begin()
    cancellation.revoke(request)
    cancellation.round()
    assert list(cancellation._ending) == [request.unit.delivery.token]
    request.done(0.1)
    cancellation.round()
    assert not cancellation._ending


def test_what_ruby_reported_stands_though_the_lease_cannot_be_renewed(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply in an outage of Redis longer than the lease was thrown away, and the job ran again."""
    unit = worker.unit("RubyJob")
    reported = object()
    monkeypatch.setattr(
        app,
        "bridge",
        SimpleNamespace(
            lease=SimpleNamespace(holds=lambda identity: False),
            sidecar=SimpleNamespace(
                has_sent=lambda delivery: delivery is unit.delivery, execute=lambda delivery: reported
            ),
        ),
    )
    assert hand_over(app, unit.delivery, app.bridge.sidecar.execute) is reported
    with pytest.raises(Settle):
        hand_over(app, worker.unit("RubyJob").delivery, app.bridge.sidecar.execute)


def test_what_a_control_command_asks_of_a_running_job_is_filled_in(worker: Worker) -> None:
    request = worker.plain("SeeJob")
    assert request.info()["worker_pid"] is None
    request.begin()
    assert state.requests == {request.id: request}
    info = request.info()
    assert info["worker_pid"] == os.getpid()
    assert (info["id"], info["name"], info["args"]) == ("0" * 24, "SeeJob", "(...)")
    assert info["delivery_info"]["routing_key"] == "q"


def test_each_attribute_of_a_request_is_what_celerys_way_would_show(worker: Worker) -> None:
    """By whichever an observer begins, before the job does."""
    # Given the attributes of the request that Celery makes of the same job
    names = {name for name in dir(celerys(worker)) if not name.startswith("__")}
    # When each attribute is the first that is read of another request
    shown = {name: shown_of(worker.plain("SeeJob", 7), name) for name in names}
    # Then it is as Celery's
    assert shown == {name: shown_of(celerys(worker), name) for name in names}


def celerys(worker: Worker) -> SidekiqRequest:
    task, unit = worker.app.tasks["SeeJob"], worker.unit("SeeJob", 7)
    message = worker.channel().message_for(unit, task.name)
    return SidekiqRequest(
        message,
        on_ack=message.ack_log_error,
        on_reject=message.reject_log_error,
        hostname="me@here",
        app=worker.app,
        task=task,
        body=message.body,
        headers=message.headers,
    )


def shown_of(request: Any, name: str) -> Any:
    """What an observer can compare: methods and objects by their class."""
    try:
        value = getattr(request, name)
    except AttributeError:
        return "missing"
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if key != "sidekiq"}
    return value if isinstance(value, str | int | float | tuple | list | None) else type(value).__name__


def test_a_fault_of_ours_costs_neither_thread_nor_job(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = worker.plain("SeeJob")

    def fault() -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(request, "context", fault)
    monkeypatch.setattr(request, "call", lambda **_: fault())
    native.run(request)
    assert worker.decisions == [GiveBack(unknown_outcome=True)]


def listen(worker: Worker) -> None:
    worker.bridge.context.listeners = 1


def log(worker: Worker) -> None:
    strategy.logger.setLevel(logging.INFO)


def revoke(worker: Worker) -> None:
    state.revoked.add("0" * 24)


def extend(worker: Worker) -> None:
    worker.consumer.on_task_message.add(print)


def replace_the_request(worker: Worker) -> None:
    worker.app.tasks["SeeJob"].Request = "celery.worker.request:Request"


@pytest.mark.parametrize("notice", [listen, log, revoke, extend, replace_the_request])
def test_a_job_that_somebody_would_notice_goes_celerys_way(
    worker: Worker, notice: Callable[[Worker], None]
) -> None:
    notice(worker)
    assert not worker.take(worker.unit("SeeJob"))
    assert not worker.begun


def test_other_pools_have_no_fast_dispatch(worker: Worker) -> None:
    worker.consumer.pool = SimpleNamespace()
    assert dispatch.of(worker.consumer) is None
