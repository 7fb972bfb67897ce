"""Log lines as Sidekiq writes them, in text and in JSON: the parsers that people have go on working."""

from __future__ import annotations

import functools
import json
import logging
import math
import re
import time
from collections.abc import Mapping
from typing import Any

from celery import _state

from bridge import errors
from bridge.broker.messages import DELIVERY_HEADER, RUBY_TASK
from bridge.monitoring.log_text import escaped
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome import failure
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.redact import scrub
from bridge.sidekiq.process import rows

#: The attribute of a request in which tracing keeps the ids of a running job.
TRACE_ATTRIBUTE = "bridge_trace"
_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
#: Characters that need no quotes in a text line.
_PLAIN = re.compile(r"[\w.:+-]+")
#: Up to the last @ of the word: a password may hold any of the others.
_CREDENTIALS = re.compile(r"://\S*@")


def redact(text: str) -> str:
    """The text with user and password of each URL out of sight."""
    return _CREDENTIALS.sub("://***@", text) if "://" in text and "@" in text else text


class TextFormat(logging.Formatter):
    """``INFO  2026-11-23T15:55:31.862Z pid=1 tid=abc class=HardJob jid=... elapsed=0.08: done``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it."""
        words = [f"{_level(record):5} {_time(record)} pid={record.process} tid={_tid(record)}"]
        words += [f"{name}={_word(value)}" for name, value in _context(record).items()]
        lines = [_clean(record, record.getMessage())]
        if trace := _trace(self, record):
            lines.append(trace)
        return f"{' '.join(words)}: {escaped(chr(10).join(lines))}"


class JsonFormat(logging.Formatter):
    """One object for each line, with Sidekiq's fields ``ts``, ``pid``, ``tid``, ``lvl``, ``msg`` and ``ctx``.

    What other code passes as ``extra`` stays out: Celery passes the arguments of a failed task so.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line; ASCII, so that nothing in a payload ends it early."""
        # Put together by hand: two of these are written for each job, and an encoder takes twice as long.
        words = [
            f'{{"ts": "{_time(record)}", "pid": {record.process or 0}, "tid": "{_tid(record)}"',
            f'"lvl": {_quoted(_level(record))}, "msg": {_quoted(_clean(record, record.getMessage()))}',
        ]
        context = _context(record)
        if record.exc_info:
            context = {**context, **_error(record)}
        if context:
            said = [f"{_quoted(str(name))}: {_json(value)}" for name, value in context.items()]
            words.append(f'"ctx": {{{", ".join(said)}}}')
        words.append(f'"logger": {_quoted(record.name)}')
        if trace := _trace(self, record):
            words.append(f'"exc": {_quoted(trace)}')
        return ", ".join(words) + "}"


_quoted = json.encoder.encode_basestring_ascii


def _json(value: object) -> str:
    if isinstance(value, str):
        return _quoted(redact(value))
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)
    try:
        return json.dumps(value, default=str, allow_nan=False)
    except (TypeError, ValueError):  # not finite, or with keys that are not text
        return _quoted(redact(str(value)))


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    texts = []
    if record.exc_info and record.exc_info[0] is not None:
        texts.append(str(formatter.formatException(record.exc_info)))
    if record.stack_info:
        texts.append(record.stack_info)
    return _clean(record, "\n".join(texts)) if texts else ""


def _error(record: logging.LogRecord) -> Mapping[str, Any]:
    """Class and message of the exception that a line carries, for filters of logs to find."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None or "error_class" in getattr(record, "ctx", ()):
        return {}
    return {"error_class": failure.class_name(error), "error_message": _clean(record, failure.message(error))}


def _clean(record: logging.LogRecord, text: str) -> str:
    """Without passwords and, where it may quote them, the arguments of the job that is running."""
    is_scrubbed = record.levelno < logging.WARNING or getattr(record, "is_scrubbed", False)
    if not is_scrubbed and (args := _running_args()):
        text = scrub(text, args)
    return redact(text)


def _running_args() -> Any:
    task = _state.get_current_task()
    delivery = getattr(task.request, DELIVERY_HEADER, None) if task is not None else None
    if not isinstance(delivery, Delivery):
        return None
    try:
        return SidekiqJob.parse(delivery.payload).args
    except errors.PayloadError:
        return None  # the claim has buried it


def _level(record: logging.LogRecord) -> str:
    """Ruby's names of the levels."""
    return _LEVELS.get(record.levelname, record.levelname)


def _time(record: logging.LogRecord) -> str:
    return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


@functools.lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _tid(record: logging.LogRecord) -> str:
    return _short((record.thread or 0) ^ (record.process or 0))


_short = functools.lru_cache(maxsize=256)(rows.tid)


def _context(record: logging.LogRecord) -> Mapping[str, Any]:
    """The context that the record brings, else the job in whose run it was written."""
    context = getattr(record, "ctx", None)
    if isinstance(context, Mapping):
        return context
    return _running_job()


def _running_job() -> dict[str, Any]:
    task = _state.get_current_task()
    if task is None or task.request.id is None:
        return {}
    found = {"jid": task.request.id, "queue": (task.request.delivery_info or {}).get("routing_key")}
    if task.name != RUBY_TASK:
        found["class"] = task.name
    return {**found, **getattr(task.request, TRACE_ATTRIBUTE, {})}


def _word(value: object) -> str:
    """A value in one word: a line break in a payload must not forge a line of the log."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else escaped(json.dumps(redact(text), ensure_ascii=False))
