"""How a run may end, as exceptions that carry a decision from the pool side to the worker's parent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import celery.exceptions
from celery.exceptions import Ignore
from celery.utils.serialization import UnpickleableExceptionWrapper, get_pickleable_exception
from kombu.utils.encoding import safe_repr

from bridge.broker.messages import RAISED_HEADER
from bridge.sidecar.result import JobResult
from bridge.sidekiq.outcome import failure
from bridge.sidekiq.outcome.decision import Decision, Discard
from bridge.sidekiq.outcome.notice import REVOKED
from bridge.sidekiq.payload import backtrace
from bridge.sidekiq.payload.job import SidekiqJob

#: Name of the attribute by which an exception carries its decision.
DECISION_ATTRIBUTE = "sidekiq_decision"
#: A longer chain of causes is not told of: each would be a traceback in the log.
LONGEST_CHAIN = 100
#: Attribute of a running task's request: the :class:`Ending` that ``self.retry`` has decided.
ASKED_ATTRIBUTE = "sidekiq_asked"


class Settle(Ignore):
    """Ends a run with a decision that is neither success nor failure to Celery (given back, refused).

    ``outage`` says why where the sidecar was at fault, ``rejected`` whether it refuses this worker
    altogether.
    """

    def __init__(self, decision: Decision, outage: str | None = None, rejected: bool = False) -> None:
        super().__init__(f"{type(decision).__name__}: {outage}" if outage else type(decision).__name__)
        self.sidekiq_decision = decision
        self.outage = outage
        self.rejected = rejected

    def __reduce__(self) -> Any:
        return type(self), (self.sidekiq_decision, self.outage, self.rejected)


class JobCancelled(Settle):
    """Raised inside a native task by ``revoke``; no autoretry catches it."""

    def __init__(self) -> None:
        super().__init__(Discard(REVOKED))

    def __reduce__(self) -> Any:
        return type(self), ()


class DeadlineExceeded(BaseException):
    """Raised inside a native task whose time is up.

    No ``Exception``: an ``except Exception`` in the task must not swallow it. A failure like any other; in
    the retry and dead sets it has the name that Ruby jobs give it.
    """

    sidekiq_name = "Bridge::DeadlineExceeded"

    @classmethod
    def after(cls, seconds: float) -> DeadlineExceeded:
        """With the reason in words."""
        return cls(f"the job ran longer than its time limit of {seconds:g} s")


class JobDied(Exception):
    """Stands for an error that cannot travel, cannot be told of, or would end the worker (SystemExit)."""

    original: tuple[str, str] | None = None
    """Class and message of that error."""


class Carried(NamedTuple):
    """A decision on the task's own exception. Several jobs may raise one object: ``token`` names the job."""

    token: int
    decision: Decision


class Wish(NamedTuple):
    """A task's wish for its retry: ``delay`` (s) replaces Sidekiq's curve, ``fields`` go into the payload."""

    delay: float | None = None
    limit: int | None = None
    """A number of retries."""
    fields: Mapping[str, Any] = {}


NO_WISH = Wish()


class Ending(NamedTuple):
    """How a run ends: ``error`` carries the decision to Celery, ``cause`` is what the task raised, if any."""

    error: BaseException
    decision: Decision
    cause: BaseException | None
    wish: Wish
    job: SidekiqJob
    is_retry: bool
    """Whether the job is to run again."""


class Unportable(UnpickleableExceptionWrapper):
    """Replaces an error that pickle cannot carry, and reads as that error does."""

    def __repr__(self) -> str:
        return str(self)


def portable(error: Exception) -> Exception:
    """The error, or a replacement of it, which the tracer hands over unchanged: it may carry a decision.

    Celery's tracer replaces an error that pickle cannot carry, under every pool. The decision on it is lost
    then, and the dead set showed ``UnpickleableExceptionWrapper``.
    """
    try:
        if isinstance(error, RubyError) or get_pickleable_exception(error) is error:
            return error
        return cast(Exception, Unportable.from_exception(error))
    except BaseException:  # its own way of being pickled
        return stand_in(error)


def fit_to_travel(error: BaseException, *, is_pickled: bool) -> BaseException:
    """An error that Celery can carry. It takes a SystemExit for the end of the worker."""
    if not isinstance(error, Exception) or isinstance(error, MemoryError):
        return stand_in(error)
    return portable(error) if is_pickled else error


class RubyError(Exception):
    """A job failed in Ruby. Reads as the Ruby exception does; ``result`` says what Ruby decided."""

    def __init__(self, result: JobResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        return self.result.error_message

    def __repr__(self) -> str:
        return f"{self.result.error_class}({self.result.error_message!r})"


def failure_of(result: JobResult) -> BaseException:
    """The exception that ends the run of a job that failed in Ruby."""
    return JobCancelled() if result.was_cancelled else RubyError(result)


class RetryAt(celery.exceptions.Retry):
    """A retry that carries its decision. Retry's own pickling would lose it between processes."""

    is_eager = False
    sig = None

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: Any = None,
        decision: Decision | None = None,
    ) -> None:
        # Not Retry's own, which pickles the exception to try whether that can be done: most never travel. It
        # also puts itself into its own args, a ring for the garbage collector.
        Exception.__init__(self, message, exc, when)
        self.message = message
        self.exc = cast(Exception | None, exc)
        self.excs = None if exc is None else safe_repr(exc)
        self.when = when
        self.sidekiq_decision = decision

    def __reduce__(self) -> Any:
        portable = None if self.exc is None else get_pickleable_exception(self.exc)
        return type(self), (self.message, portable, self.when, self.sidekiq_decision)


def as_headers(request: Any, error: BaseException | None = None) -> dict[str, Any]:
    """The headers that tell the tracer how a run ended: its error and the retry it asked for.

    None for a success. ``request`` is the one that the task's code saw.
    """
    asked: Ending | None = request.__dict__.get(ASKED_ATTRIBUTE)
    if error is None and asked is not None and asked.is_retry:
        error = asked.error  # retry(throw=False), or the code has swallowed the Retry
    return {} if error is None else {RAISED_HEADER: error, ASKED_ATTRIBUTE: asked}


def decision_of(error: BaseException, token: int) -> Decision | None:
    """The decision that an exception carries about this delivery, if any."""
    carried = getattr(error, DECISION_ATTRIBUTE, None)
    if isinstance(carried, Carried):
        return carried.decision if carried.token == token else None
    return cast(Decision | None, carried)


def decided_before(error: BaseException, token: int) -> BaseException | None:
    """The error with the decision about this delivery, if a hook raised ``error`` in its place; else None."""
    each: BaseException | None = error
    for _ in range(LONGEST_CHAIN):
        if each is None or decision_of(each, token) is not None:
            return None if each is error else each
        each = each.__context__
    return None


def tellable(error: BaseException) -> BaseException:
    """The error itself, or a :class:`JobDied` where telling of the error would be another error.

    Logs, events, signals and Celery's tracer ask an error, and all that led to it, for text, class and
    attributes. A method that raises there would cost the job its outcome, or the worker a thread.
    """
    found: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    try:
        while waiting:
            each = waiting.pop()
            if each is None or id(each) in found:
                continue
            found[id(each)] = each
            if len(found) > LONGEST_CHAIN or not _is_tame(each):
                return stand_in(error)
            waiting += (each.__cause__, each.__context__)
            if isinstance(each, BaseExceptionGroup):
                waiting += each.exceptions
    except BaseException:
        return stand_in(error)
    return error


def _is_tame(error: BaseException) -> bool:
    kind = type(error)
    hash(error)
    bool(error)  # Python asks it where it writes out a traceback
    error.__traceback__ = error.__traceback__
    return (type(str(error)), type(repr(error)), error.__class__) == (str, str, kind) and error == error


def stand_in(error: BaseException) -> JobDied:
    """An error that can be told of everywhere, with the class and the message of this one."""
    name, message = failure.class_name(error), failure.message(error)
    died = JobDied(f"{name}: {message}").with_traceback(backtrace.traceback_of(error))
    died.original = (name, message)
    return died
