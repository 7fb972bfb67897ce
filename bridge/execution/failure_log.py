"""The log lines of a failing job: class, message and traceback of each attempt, as in Sidekiq.

The lines go to Celery's own logger for failures: error trackers know that name, and report no job twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from traceback import TracebackException
from types import TracebackType
from typing import Any

import celery

from bridge.execution.outcomes import DECISION_ATTRIBUTE, JobDied, RubyError
from bridge.sidekiq.outcome import failure
from bridge.sidekiq.payload import backtrace
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.redact import scrub

logger = logging.getLogger("celery.app.trace")
_faults = logging.getLogger(__name__)

#: Code between Celery's tracer and a task's own: its frames say nothing about the failure.
_INNER = tuple(f"{Path(str(module)).parent}/" for module in (celery.__file__, Path(__file__).parent))
LONGEST_MESSAGE = 200


def note(
    job: SidekiqJob,
    queue: str,
    error: BaseException | None,
    expected: Any = (),
    *,
    last: bool,
    wanted: str,
) -> None:
    """Log one failed attempt: WARNING, or ERROR for the last one.

    An error of the ``expected`` classes (``throws`` of the task) is a line at INFO without a traceback, as in
    Celery.

    ``wanted`` is ``BRIDGE_LOG_TRACEBACKS``: ``all`` attempts, the ``last`` one, or ``none``, which leaves one
    line without a traceback for the last one.
    """
    if error is None or (not last and wanted != "all"):
        return
    level, traced = logging.ERROR if last else logging.WARNING, wanted != "none"
    if expected and issubclass(type(error), expected):
        level, traced = logging.INFO, False
    if logger.isEnabledFor(level):
        _write(level, job, queue, error, last=last, traced=traced)


def fault(words: str, *subject: object) -> None:
    """Log a fault with the exception that is being handled, even if that one cannot be told of."""
    try:
        _faults.exception(words, *subject)
    except BaseException:
        _faults.error(words, *subject)


def _write(
    level: int, job: SidekiqJob, queue: str, error: BaseException, *, last: bool, traced: bool
) -> None:
    words = "the job failed for the last time" if last else "the attempt failed and will be retried"
    # As text: a handler that keeps records must not keep the frames, with all that the job had in its hands.
    trace = _trace(error) if traced else None
    name, message = _names(error)
    args = job.fields.get("args")
    record = logger.makeRecord(
        logger.name, level, __file__, 0, words, (), None, sinfo=scrub(trace, args) if trace else None
    )
    found = {
        "jid": job.jid,
        "class": job.native_class,
        "queue": queue,
        "ran": "ruby" if type(error) is RubyError else "python",
        "error_class": name,
        "error_message": scrub(message, args)[:LONGEST_MESSAGE],
    }
    record.ctx = {key: value for key, value in found.items() if value is not None}
    record.is_scrubbed = True
    logger.handle(record)


def _names(error: BaseException) -> tuple[str, str]:
    if type(error) is RubyError:
        return error.result.error_class, error.result.error_message
    original = error.original if type(error) is JobDied else None
    return original or (failure.class_name(error), failure.message(error))


def _trace(error: BaseException) -> str | None:
    if type(error) is RubyError:
        return _ruby_trace(error)
    told = TracebackException(type(error), error, _own_frames(error.__traceback__), compact=True)
    _without_carets(told)
    return "".join(told.format()).rstrip().encode("utf-8", "replace").decode()


def _without_carets(told: TracebackException) -> None:
    """Python finds their places by parsing each line, which takes three times as long as all the rest."""
    waiting: list[TracebackException | None] = [told]
    while waiting:  # a chain of causes may be longer than Python's stack
        each = waiting.pop()
        if each is not None:
            for frame in each.stack:
                frame.colno = frame.end_colno = None
            waiting += (each.__cause__, each.__context__)


def _own_frames(step: TracebackType | None) -> TracebackType | None:
    """From the first frame outside of Celery and this package on; the last one where there is none."""
    last = step
    while step is not None:
        last = step
        if not step.tb_frame.f_code.co_filename.startswith(_INNER):
            break
        step = step.tb_next
    return last


def _ruby_trace(error: RubyError) -> str | None:
    """The backtrace that the sidecar reports: for jobs with ``backtrace`` among their options."""
    decided = error.result.next
    fields: Mapping[str, Any] = decided.fields if decided is not None else {}
    encoded = fields.get("error_backtrace")
    return "\n".join(backtrace.decode(encoded)) or None if encoded is not None else None


def _is_news(record: logging.LogRecord) -> bool:
    """Celery writes the last failure as well, with its own frames: once is enough."""
    error = record.exc_info[1] if record.exc_info else None
    return hasattr(record, "ctx") or not hasattr(error, DECISION_ATTRIBUTE)


logger.addFilter(_is_news)
