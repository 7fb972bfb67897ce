"""How a run of a Python task failed, as Sidekiq's sets and handlers are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bridge.sidekiq.payload import backtrace
from bridge.sidekiq.payload.job import SidekiqJob

MESSAGE_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class Failure:
    """How a run failed."""

    error_class: str
    message: str
    """At most 10,000 characters of valid UTF-8."""
    backtrace: tuple[str, ...] = ()
    """Innermost first, ready for the Web UI (``backtrace.python_lines``)."""
    lines: Callable[[], Sequence[str]] = field(default=tuple, compare=False)
    """The same for Ruby's handlers, unescaped, whether or not the job wants one stored."""

    @classmethod
    def of(cls, error: BaseException, job: SidekiqJob, trace: Callable[[], str] | None = None) -> Failure:
        """From an exception of this job, with a backtrace only where the job wants one stored.

        ``trace`` gives the traceback as text, where a pool's pickling has cost the exception its frames.
        """

        def lines() -> Sequence[str]:
            return backtrace.frames((trace and trace()) or error)

        stored = backtrace.escaped(lines()) if wants_backtrace(job) else ()
        return cls(class_name(error), scrubbed(message(error)), tuple(stored), lines)


def wants_backtrace(job: SidekiqJob) -> bool:
    """By Ruby's truth: 0 stores an empty list."""
    wanted = job.fields.get("backtrace")
    return wanted is not None and wanted is not False


def scrubbed(message: str) -> str:
    """At most 10,000 characters of valid UTF-8."""
    return message[:MESSAGE_CHARS].encode("utf-8", "replace").decode()


def class_name(error: BaseException) -> str:
    """The name of an exception's class as ``error_class`` stores it. Never raises."""
    kind = type(error)
    try:
        if isinstance(named := getattr(kind, "sidekiq_name", None), str):
            return scrubbed(named)
        module, name = kind.__module__, kind.__qualname__
        return scrubbed(name if module == "builtins" or not isinstance(module, str) else f"{module}.{name}")
    except BaseException:  # of a metaclass
        return scrubbed(type.__repr__(kind))


def message(error: BaseException) -> str:
    """The message of an exception, even of one whose ``__str__`` is broken. Never raises."""
    try:
        text = str.__str__(str(error))  # of a class of the task's own: the text without its methods
    except BaseException:  # a broken __str__ must not cost the job its retry, nor a SystemExit in it the slot
        return "(the error's message could not be read)"
    return text.encode("utf-8", "replace").decode()
