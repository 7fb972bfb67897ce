"""What this project assumes of Celery. Each test says what breaks when its assumption fails."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, bootsteps, signals
from celery._state import _task_stack
from celery.app import trace
from celery.app.amqp import AMQP
from celery.app.autoretry import add_autoretry_behaviour
from celery.concurrency.base import BasePool, apply_target
from celery.events import EventDispatcher
from celery.exceptions import Ignore, Retry
from celery.utils.threads import LocalStack
from celery.worker import consumer, request
from celery.worker.consumer import Consumer
from celery.worker.control import Panel
from celery.worker.request import Request, create_request_cls
from celery.worker.worker import WorkController

from bridge import celery_settings
from bridge.broker import messages
from bridge.broker.transport import Transport
from bridge.execution.outcomes import RetryAt, Settle
from bridge.execution.task import SidekiqTask
from bridge.sidekiq.outcome import decision


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def source(thing: Any) -> str:
    return inspect.getsource(thing)


def test_the_hooks_of_a_request_keep_their_signatures() -> None:
    """Else SidekiqRequest records nothing: failed jobs would count as done."""
    assert parameters(Request.on_accepted) == ["self", "pid", "time_accepted"]
    assert parameters(Request.on_failure) == ["self", "exc_info", "send_failed_event", "return_ok"]
    assert parameters(Request.on_timeout) == ["self", "soft", "timeout"]
    assert parameters(Request.terminate) == ["self", "pool", "signal"]
    assert parameters(Request.acknowledge) == ["self"]


def test_the_headers_of_a_message_are_known() -> None:
    """Else a header of Celery's would become one of the user's, in each payload."""
    app = Celery("contract", set_as_current=False)
    assert {*app.amqp.as_task_v2("id", "name").headers} <= {*messages._CELERYS}


def test_a_failure_is_told_before_it_is_acknowledged() -> None:
    """The ack settles what on_failure has recorded; the other way round a failed job would be done."""
    text = source(Request.on_failure)
    assert text.index("task_ready(self)") < text.index("self.acknowledge()")


def test_the_fast_request_class_hides_on_success_and_nothing_else() -> None:
    """create_request_cls shadows methods of ours: what it hides would never be called."""
    app = Celery("contract", set_as_current=False)

    @app.task(name="x")
    def task() -> None:
        """Nothing."""

    class Pool:
        apply_async = None

    made = create_request_cls(Request, task, Pool(), "host", None, app=app)
    own = {name for name in vars(made) if not name.startswith("__")}
    assert own == {"execute_using_pool", "on_success"}


def test_a_success_of_a_late_acking_task_is_acknowledged() -> None:
    """Else every successful job would stay in flight."""
    text = source(create_request_cls)
    assert "acks_late = task.acks_late" in text
    assert "if acks_late:\n                self.acknowledge()" in text


def test_a_failure_in_the_pool_comes_to_on_failure_also_when_it_is_a_retry_or_ignored() -> None:
    """Settle is an Ignore and RetryAt a Retry: their decisions are recorded in on_failure."""
    assert issubclass(Settle, Ignore)
    assert issubclass(RetryAt, Retry)
    text = source(Request.on_failure)
    assert "elif isinstance(exc, Ignore):\n            return self.acknowledge()" in text
    assert "elif isinstance(exc, Retry):\n            return self.on_retry(exc_info)" in text


def test_a_revoked_request_is_acknowledged_without_having_started() -> None:
    """The ack of an unstarted job gives it back, unless something was decided before: see SidekiqRequest."""
    assert "self.acknowledge()" in source(Request._announce_revoked)


def test_the_delivery_stands_in_the_request_dict() -> None:
    """SidekiqRequest reads its own header there; without it no run could be settled."""
    assert "self._request_dict" in source(Request.__init__)
    assert isinstance(inspect.getattr_static(Request, "request_dict"), property)


@pytest.mark.parametrize("name", ["task_ready", "revoked_tasks"])
def test_names_that_are_bound_at_import(name: str) -> None:
    """Celery binds them as defaults of create_request_cls."""
    assert hasattr(request, name)


# -- retries


def test_retry_keeps_its_signature() -> None:
    """Autoretry calls task.retry(exc=..., countdown=...); ours takes the same."""
    from celery.app.task import Task

    theirs, ours = parameters(Task.retry), parameters(SidekiqTask.retry)
    assert theirs == ours


def test_celery_puts_no_autoretry_around_a_task_whose_run_is_ours() -> None:
    """Its wrapper would read the options once, and leave out what they do not name."""
    app = Celery("contract", set_as_current=False)
    assert "hasattr(task, '_orig_run')" in source(add_autoretry_behaviour)

    for options in (
        {},
        {"autoretry_for": ()},
        {"autoretry_for": (OSError,), "retry_kwargs": {"max_retries": 2}},
    ):

        @app.task(name=f"Native{len(options)}", base=SidekiqTask, **options)
        def native() -> str:
            return "done"

        assert native.run is not native.code
        assert "_run" in native.run.__code__.co_names
        assert native.run() == native() == "done"


def test_the_pool_is_given_the_time_limits_of_the_request() -> None:
    """Else the limits of a payload would end nothing under prefork."""
    assert "time_limit, soft_time_limit = self.time_limits" in source(create_request_cls)


def test_a_retry_loses_its_attributes_between_processes_unless_it_says_how() -> None:
    """Why RetryAt and Settle have a __reduce__ of their own."""
    plain = Retry("m")
    plain.extra = 1  # type: ignore[attr-defined]
    assert not hasattr(pickle.loads(pickle.dumps(plain)), "extra")
    kept = decision.Retry(5.0, b"\xff")
    assert pickle.loads(pickle.dumps(RetryAt(decision=kept))).sidekiq_decision == kept
    settle = pickle.loads(pickle.dumps(Settle(decision.GiveBack(), outage="gone", rejected=True)))
    assert (settle.sidekiq_decision, settle.outage, settle.rejected) == (decision.GiveBack(), "gone", True)


def test_the_tracer_turns_ignore_and_retry_into_results_that_count_as_failures() -> None:
    """The pool's callback gets (1, info, time) for them, which leads to on_failure."""
    text = source(trace.build_tracer)
    assert "except Ignore as exc" in text
    assert "I, R = Info(IGNORED, exc), ExceptionInfo(internal=True)" in text
    assert "except Retry as exc" in text


def test_the_tracer_asks_an_info_of_our_choice_what_to_make_of_a_retry() -> None:
    """RunInfo leaves out the parts that read ``einfo``, and copies no frames."""
    assert "Info" in inspect.signature(trace.build_tracer).parameters
    text = source(trace.TraceInfo.handle_retry)
    readers = ["mark_as_retry", "task.on_retry(", "task_retry.send", "info(LOG_RETRY", "traceback_clear("]
    assert [text.count(reader) for reader in readers] == [1] * len(readers)
    assert len([line for line in text.splitlines() if "einfo" in line]) == 7


def test_a_retry_has_no_more_than_what_ours_sets_without_calling_its_constructor() -> None:
    """RetryAt does without Retry.__init__, which pickles the error and puts itself into its own args."""
    theirs = vars(Retry(exc=ValueError("no"), when=1.0))
    assert theirs.keys() == {"message", "exc", "excs", "when", "is_eager", "sig"}
    ours = RetryAt(exc=ValueError("no"), when=1.0)
    assert all(hasattr(ours, name) for name in theirs)
    assert str(ours) == str(Retry(exc=ValueError("no"), when=1.0))


# -- worker and bootsteps


def test_stop_comes_before_the_pool_has_finished_and_shutdown_after() -> None:
    """A heartbeat that ended in stop would let a draining worker look dead: its jobs would run twice."""
    from celery.apps.worker import Worker
    from celery.worker import WorkController

    text = source(WorkController.Blueprint)
    assert "Consumer" in text
    assert "consumer.shutdown()" in source(WorkController.on_stopped).replace("self.", "")
    assert issubclass(Worker, WorkController)
    assert "self.send_all(parent, 'shutdown')" in source(consumer.Consumer.Blueprint.shutdown)


def test_steps_are_stopped_in_the_reverse_order_of_their_start() -> None:
    """The heartbeat requires Tasks, so it starts after the queues are consumed and ends before them."""
    calls: list[str] = []

    class First(bootsteps.StartStopStep):
        def start(self, parent: Any) -> None:
            calls.append("start first")

        def stop(self, parent: Any) -> None:
            calls.append("stop first")

    class Second(bootsteps.StartStopStep):
        requires = (First,)

        def start(self, parent: Any) -> None:
            calls.append("start second")

        def stop(self, parent: Any) -> None:
            calls.append("stop second")

    class Blueprint(bootsteps.Blueprint):
        default_steps = frozenset({First, Second})

    class Parent:
        def __init__(self) -> None:
            self.steps: list[Any] = []

    parent = Parent()
    blueprint = Blueprint()
    blueprint.apply(parent)
    blueprint.start(parent)
    blueprint.stop(parent)
    assert calls == ["start first", "start second", "stop second", "stop first"]


def test_worker_shutting_down_is_sent_inside_the_signal_handler() -> None:
    """The lifecycle hears of TERM there; sent later, after the pool, it could end nothing."""
    from celery.apps import worker

    text = source(worker._shutdown_handler)
    assert "signals.worker_shutting_down.send(" in text
    assert text.index("worker_shutting_down") < text.index("setattr(state")
    assert "how" in text
    assert "how=how" in text
    assert hasattr(signals, "worker_shutting_down")


def test_the_consumers_steps_are_where_ours_are_added() -> None:
    """app.steps["consumer"] is a set of step classes."""
    app = Celery("contract", set_as_current=False)
    assert app.steps["consumer"] == set()


def test_the_synchronous_loop_lets_a_timeout_pass() -> None:
    """Our drain_events raises TimeoutError where nothing came."""
    from celery.worker import loops

    text = source(loops.synloop)
    assert "connection.drain_events(timeout=2.0)" in text
    assert "except TimeoutError" in text or "socket.timeout" in text


def test_the_event_loop_is_used_only_where_the_transport_is_asynchronous() -> None:
    """Ours is not; on the hub nobody would call drain_events."""
    from celery.worker import WorkController

    assert "implements.asynchronous" in source(WorkController.should_use_eventloop)


def test_mingle_and_gossip_look_at_the_drivers_type() -> None:
    """Ours is "sidekiq", so that neither starts: both would write into Sidekiq's Redis."""
    from celery.worker.consumer.gossip import Gossip
    from celery.worker.consumer.mingle import Mingle

    for step in (Gossip, Mingle):
        assert Transport.driver_type not in step.compatible_transports
        assert "driver_type in self.compatible_transports" in source(step.compatible_transport)


def test_the_message_layer_of_an_application_is_asked_for_connections() -> None:
    """Celery(amqp=...) and AMQP.Connection bind our transport to one application alone."""
    assert "self.amqp.Connection(" in source(Celery._connection)
    assert hasattr(AMQP, "Connection")


def test_an_event_dispatcher_buffers_groups_of_events() -> None:
    """The batching of task events."""
    assert {"buffer_group", "buffer_limit", "on_send_buffered"} <= set(parameters(EventDispatcher.__init__))
    assert "if groups and group in groups" in source(EventDispatcher.send) or "buffer_group" in source(
        EventDispatcher.send
    )


def test_a_pool_is_what_our_own_pool_takes_it_for() -> None:
    """on_apply is given target, args, kwargs, callback and accept_callback; apply_target runs and tells."""
    assert {"target", "args", "kwargs", "callback", "accept_callback"} <= set(parameters(apply_target))
    for name in ("on_start", "on_apply", "on_stop", "on_terminate", "_get_info"):
        assert hasattr(BasePool, name)


def test_policy_names_settings_that_celery_knows() -> None:
    """Celery ignores a setting it does not know; an invariant would rest on nothing."""
    from celery.app.defaults import NAMESPACES, flatten

    from bridge import celery_settings
    from bridge.worker import preflight

    known = {name for name, _ in flatten(NAMESPACES)}
    ours = {name for name in vars(celery_settings) if not name.startswith("_")}
    assert ours <= known
    assert set(preflight.REQUIRED) <= known


def test_celery_and_kombu_are_the_minor_version_that_was_read() -> None:
    """The tests here look at what 5.7 does."""
    import celery
    import kombu

    assert celery.VERSION[:2] == (5, 7)
    assert kombu.VERSION[:2] == (5, 7)
    assert Path(celery.__file__).exists()


# -- the consumer


def test_the_consumer_class_is_a_setting() -> None:
    """Else JobConsumer is never made, and each job costs two promises."""
    assert "either('worker_consumer', consumer_cls)" in source(WorkController.setup_defaults)


def test_a_task_handler_gives_a_strategy_message_payload_ack_reject_and_callbacks() -> None:
    """JobConsumer calls strategies as Celery's own handler does."""
    text = " ".join(source(Consumer.create_task_handler).split())
    assert "strategy( message, payload, ack_log_error_promise, reject_log_error_promise, callbacks, )" in text
    assert "strategies = self.strategies" in text
    assert "callbacks = self.on_task_message" in text


def test_promises_only_matter_where_a_restart_reduces_the_prefetch_count() -> None:
    """JobConsumer makes none: they give back prefetch that a restart took, and ours takes none."""
    assert celery_settings.worker_enable_prefetch_count_reduction is False
    assert "not self._maximum_prefetch_restored and self.restart_count > 0" in " ".join(
        source(Consumer.create_task_handler).split()
    )
    assert "if self.app.conf.worker_enable_prefetch_count_reduction:" in source(
        Consumer.on_connection_error_after_connected
    )


def test_a_success_without_observers_leaves_no_trace_in_the_tracer() -> None:
    """The fast path skips the tracer then: whatever else it tells of a success must be added to observers."""
    told = [line.strip() for line in source(trace.build_tracer).splitlines() if "receivers" in line]
    assert [line for line in told if line.startswith("if")] == [
        "if prerun_receivers:",
        "if success_receivers:",
        "if postrun_receivers:",
    ]
    assert "return (1, R, T) if I else (0, Rstr, T)" in source(trace.fast_trace_task) + source(
        trace.trace_task_ret
    )


def test_a_request_is_accepted_and_ended_by_what_the_plain_one_does_itself() -> None:
    """LazyRequest.begin and done stand for these: whatever else is done there must be added to them."""
    accepted = source(Request.on_accepted)
    assert "task_accepted(self)" in accepted
    assert "self.send_event('task-started')" in accepted
    assert "self._terminate_on_ack is not None" in accepted  # set by Celery's revoke, which ours replaces
    made = source(create_request_cls)
    assert "task_ready(self, successful=True)" in made
    assert "self.send_event( 'task-succeeded', result=retval, runtime=runtime, )" in " ".join(made.split())
    assert "successful_requests" not in source(Panel.data["active"]) + source(Panel.data["reserved"])


def test_an_ack_is_called_with_a_logger_and_the_errors_of_the_connection() -> None:
    """JobConsumer gives Request the message's own method instead of a promise around it."""
    assert "self._on_ack(logger, self._connection_errors)" in source(Request.acknowledge)
    assert "self._on_reject(logger, self._connection_errors, requeue)" in source(Request.reject)


def test_the_stacks_of_tasks_and_requests_ask_a_function_whose_they_are() -> None:
    """Else the coroutines of one thread would see each other's `self.request` and `current_task`."""
    stack: Any = LocalStack()
    first, second = object(), object()
    owner = first
    stack.__ident_func__ = lambda: owner
    stack.push("of the first")

    owner = second
    assert stack.top is None
    owner = first
    assert stack.top == "of the first"
    assert type(_task_stack) is type(stack)


def test_the_stack_of_a_thread_is_where_a_native_run_looks_for_it() -> None:
    """Else each native job goes through `push`, which takes four functions and an exception more."""
    stack: Any = LocalStack()
    stack.push("task")
    assert stack._local.__storage__[stack._local.__ident_func__()]["stack"] is stack.stack
