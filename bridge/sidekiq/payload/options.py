"""Judges ``sidekiq_options``: the fields that a push adds to a payload.

The types follow ``job_util.rb`` and ``job_retry.rb`` of Sidekiq 6.4 to 8.1. Any other field goes into the
payload as it is: the app's own middleware may read it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from bridge.sidekiq.payload import expiry, queue_names

#: The field in which a job brings its own limit along.
LIMIT = "bridge_limit"

_LONGEST_RETRY_FOR_SECONDS = 1_000_000_000
_LEVELS = ("debug", "info", "warn", "error", "fatal", "unknown")

_CLIENTS = "Sidekiq writes it. Remove it"
_PRO = (
    "Sidekiq Pro or Enterprise acts on it where Ruby pushes. Push the job from Ruby, or with ruby_client=True"
)
_LOCKS = (
    "sidekiq-unique-jobs takes the lock where Ruby pushes. Push the job from Ruby, or with ruby_client=True"
)
#: Fields that do nothing, or harm, where Python writes them.
_REFUSED: dict[str, str] = {
    **dict.fromkeys(["class", "args", "jid", "at", "created_at", "enqueued_at", "wrapped"], _CLIENTS),
    **dict.fromkeys(["retry_count", "failed_at", "retried_at", "interrupt_count"], _CLIENTS),
    **dict.fromkeys(["error_class", "error_message", "error_backtrace"], _CLIENTS),
    **dict.fromkeys(["unique_for", "unique_until", "unlocks_at", "unique_token"], _PRO),
    **dict.fromkeys(["bid", "encrypt"], _PRO),
    "expiry": "the push writes it. Write expires_in, in seconds",
    **dict.fromkeys(["lock", "lock_ttl", "lock_timeout", "lock_args_method", "lock_limit"], _LOCKS),
    **dict.fromkeys(["lock_prefix", "lock_info", "lock_digest", "on_conflict"], _LOCKS),
    **dict.fromkeys(["unique", "unique_digest"], _LOCKS),
    "bridge_batch": "a batch writes it. Push the job inside `with batch.jobs():`",
    "pool": "a push goes to the Redis of the bridge's settings. Remove it",
}  # fmt: skip


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0  # True and False are whole numbers to Python


def _is_span(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value <= _LONGEST_RETRY_FOR_SECONDS


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_tags(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(tag, str) for tag in value)


def _is_queue(value: Any) -> bool:
    return queue_names.objection(value) is None


def _is_limit(value: Any) -> bool:
    """The worker judges the rest: it knows what a limit may say."""
    limits = value if isinstance(value, list | tuple) else [value]
    return all(
        isinstance(one, Mapping) and one.keys() <= _LIMIT_FIELDS and one.keys() & {"concurrency", "rate"}
        for one in limits
    )


_LIMIT_FIELDS = {"concurrency", "rate", "key"}
_QUEUE = "write the name of a queue: letters, digits and _ : . - only"
#: Sidekiq's own options: whether a value is right, and the words for one that is not.
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "retry": (_is_count, "write true, false or a number of retries"),
    "dead": (_is_flag, "write true or false"),
    "backtrace": (_is_count, "write true, false or a number of lines"),
    "tags": (_are_tags, "write a list of strings"),
    "retry_for": (_is_span, "write the number of seconds after which no retry follows"),
    "expires_in": (expiry.is_span, "write the number of seconds within which the job must begin"),
    "queue": (_is_queue, _QUEUE),
    "retry_queue": (_is_queue, _QUEUE),
    "log_level": (_LEVELS.__contains__, f"write one of {', '.join(_LEVELS)}"),
    "display_class": (_is_text, "write a string"),
    LIMIT: (_is_limit, 'write an object, such as {"concurrency": 3, "key": "args.0"}'),
}
#: Celery's words for them.
_ALIASES = {"retries": "retry", "max_retries": "retry", "expires": "expires_in", "priority": "queue"}
_KNOWN = {**{name: name for name in (*_TYPES, *_REFUSED)}, **_ALIASES}
#: As similar as two names are that differ in one or two letters.
_SIMILAR = 0.8


def objection(options: object, *, through_ruby: bool = False) -> str | None:
    """Return the sentence that refuses these options, with the name of the option; None if they are right.

    ``through_ruby``: the push passes the app's client middleware, which acts on its own options.
    """
    if not isinstance(options, Mapping):
        return f"{options!r}: write an object, such as {{'retry': 5}}"
    found = (_objection(name, value, through_ruby) for name, value in options.items())
    return next((sentence for sentence in found if sentence is not None), None)


def _objection(name: Any, value: Any, through_ruby: bool) -> str | None:
    if not isinstance(name, str):
        return f"{name!r}: the name of an option is a string"
    if through_ruby and _REFUSED.get(name) in (_PRO, _LOCKS):
        return None
    if name in _REFUSED:
        return f"{name}: {_REFUSED[name]}"
    if name in _TYPES:
        is_right, advice = _TYPES[name]
        return None if value is None or is_right(value) else f"{name} = {value!r}: {advice}"
    near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=_SIMILAR)
    return f"{name}: Sidekiq has no such option. Write {_KNOWN[near[0]]}" if near else None
