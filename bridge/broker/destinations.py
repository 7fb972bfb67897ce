"""Finds the one Sidekiq queue of a push that names an exchange, a routing key or a declared queue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from kombu import Exchange, Queue

from bridge.errors import PushRefused

_WILDCARDS = {"*": r"[^.]+", "#": r".*"}


def plain(queue: Any) -> Queue:
    """A queue of this name, without the exchange that the user declared for it: jobs need none."""
    return Queue(queue.name, Exchange(queue.name, "direct"), routing_key=queue.name, alias=queue.alias)


def is_broadcast(queue: Any) -> bool:
    """Whether every worker would get a copy of each message."""
    return getattr(queue.exchange, "type", None) == "fanout"


def queue_of(
    task: str, queue: Any, exchange: Any, routing_key: str | None, declared: Iterable[Queue], *, named: bool
) -> str:
    """The name of the queue that a message would reach by AMQP's rules.

    ``queue`` is the declared one; ``named``: the push or its route names it, and it is not just the default.

    Raises:
        PushRefused: they lead to no queue, or to several.
    """
    place = getattr(exchange, "name", exchange)
    if place is None and (routing_key is None or named):
        return _one(task, [queue], f"queue={queue.name!r}")
    if place == "":
        return routing_key or str(queue.name)
    found = [each for each in declared if _is_bound(each, place, routing_key)]
    return _one(task, found, f"exchange={place!r}, routing_key={routing_key!r}")


def _one(task: str, found: list[Any], words: str) -> str:
    if len(found) != 1 or is_broadcast(found[0]):
        how = "no declared queue" if not found else "more than one queue, and a Sidekiq job is in one"
        raise PushRefused(
            f"{task}: {words} leads to {how}. Write queue='name', or declare it: "
            "task_queues = [Queue('name', Exchange(...), routing_key=...)]."
        )
    return str(found[0].name)


def _is_bound(queue: Any, exchange: str | None, routing_key: str | None) -> bool:
    return any(
        _is_there(exchange, place, kind) and (routing_key is None or _matches(kind, key, routing_key))
        for place, kind, key in _bindings(queue)
    )


def _is_there(exchange: str | None, place: str, kind: str) -> bool:
    """Whether a push may mean this exchange. One without an exchange never means a broadcast."""
    return kind != "fanout" if exchange is None else exchange == place


def _bindings(queue: Any) -> Iterator[tuple[str, str, str]]:
    for each in (queue, *(queue.bindings or ())):
        kind = getattr(each.exchange, "type", None) or "direct"
        yield getattr(each.exchange, "name", None) or "", kind, each.routing_key or ""


def _matches(kind: str, pattern: str, routing_key: str) -> bool:
    if kind == "topic":
        words = (_WILDCARDS.get(word) or re.escape(word) for word in pattern.split("."))
        return re.fullmatch(r"\.".join(words), routing_key) is not None
    return kind == "fanout" or pattern == routing_key
