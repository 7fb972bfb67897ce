"""How a run may end, as exceptions that carry a decision from the pool side to the worker's parent."""

from __future__ import annotations

from typing import Any, cast

from celery.exceptions import Ignore, Retry
from celery.utils.serialization import UnpickleableExceptionWrapper, get_pickleable_exception
from kombu.utils.encoding import safe_repr

from bridge.sidecar.result import JobResult
from bridge.sidekiq.outcome.decision import Decision, Discard
from bridge.sidekiq.outcome.notice import REVOKED

#: Name of the attribute by which an exception carries its decision.
DECISION_ATTRIBUTE = "sidekiq_decision"


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
    """Stands for what cannot travel or would end the worker: SystemExit, MemoryError, KeyboardInterrupt."""


class Unportable(UnpickleableExceptionWrapper):
    """Replaces an error that pickle cannot carry, and reads as that error does."""

    def __repr__(self) -> str:
        return str(self)


def portable(error: Exception) -> Exception:
    """The error, or a replacement of it, which the tracer hands over unchanged: it may carry a decision.

    Celery's tracer replaces an error that pickle cannot carry, under every pool. The decision on it is lost
    then, and the dead set showed ``UnpickleableExceptionWrapper``.
    """
    if isinstance(error, RubyError) or get_pickleable_exception(error) is error:
        return error
    return cast(Exception, Unportable.from_exception(error))


class RubyError(Exception):
    """A job failed in Ruby. Reads as the Ruby exception does; ``result`` says what Ruby decided."""

    def __init__(self, result: JobResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        return self.result.error_message

    def __repr__(self) -> str:
        return f"{self.result.error_class}({self.result.error_message!r})"


class RetryAt(Retry):
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


def decision_of(error: BaseException | None) -> Decision | None:
    """The decision an exception carries, if any."""
    return getattr(error, DECISION_ATTRIBUTE, None)
