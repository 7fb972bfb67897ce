"""The calls of the scripts that move batches on, and what their refusals mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import redis

from bridge import errors
from bridge.redis import scripts
from bridge.redis.eviction import SAFE
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.store import RedisStore

TTL_SECONDS = keys.BATCH_TTL_SECONDS
#: The place of a job whose result is the next of a chord.
ORDERED = "+"
#: Most batches that one push forgets.
PRUNED = 10


class Entry(NamedTuple):
    """A job as Redis stores it. ``queue`` is empty for one that is pushed elsewhere."""

    jid: str
    queue: str
    at: float | None
    payload: bytes
    place: str = ""
    """``ORDERED``: the next result of a chord is this job's."""


class Header(NamedTuple):
    """The words that batch_push.lua gets beside the jobs."""

    bid: str
    token: str
    """Of the push: a repeated slice does nothing."""
    slice: int
    is_new: bool
    is_last: bool
    adder: str
    fields: Mapping[str, str | bytes]


def push(header: Header, entries: Sequence[Entry]) -> scripts.Call:
    """One slice of a push."""
    queues = list(dict.fromkeys(entry.queue for entry in entries if entry.queue and entry.at is None))
    fixed = (
        keys.batch(header.bid),
        keys.batch_jobs(header.bid),
        keys.BATCHES,
        keys.batch_push(header.token),
        keys.QUEUES,
        keys.SCHEDULE,
    )
    places = {name: str(len(fixed) + 1 + i) for i, name in enumerate(queues)}
    fields = [part for item in header.fields.items() for part in item]
    args: list[Any] = [
        header.bid,
        header.slice,
        "open" if header.is_new else "add",
        int(header.is_last),
        header.adder,
        TTL_SECONDS,
        len(fields),
        *fields,
    ]
    for entry in entries:
        place = f"@{entry.at!r}" if entry.at is not None else places.get(entry.queue, "0")
        args += [entry.jid, entry.place or place, entry.payload]
    return scripts.Call(lua.load("batch_push"), (*fixed, *map(keys.queue, queues)), args)


def run(store: RedisStore, call: scripts.Call, bid: str) -> None:
    """Run a call. Raises BatchRefused, StoreError."""
    try:
        store.push_by(call)
    except errors.StoreUnavailable:
        raise
    except errors.StoreError as error:
        raise refusal(bid, str(error)) or error from None


def refusal(bid: str, said: str) -> errors.BatchRefused | None:
    """The sentence for what a script says of a batch; None for any other error."""
    word, _, rest = said.partition(" ")
    if word == "BATCHGONE":
        return errors.BatchRefused(
            f"Redis knows no batch {bid}: it was never pushed, or its time is over. Push a new batch."
        )
    if word == "BATCHFINISHED":
        when = datetime.fromtimestamp(float(rest), UTC)
        return errors.BatchRefused(
            f"batch {bid} is finished since {when:%Y-%m-%d %H:%M:%S} UTC and takes no jobs. "
            "Push a new batch, or add the jobs inside one of its own jobs."
        )
    return None


def forget(store: RedisStore, bid: str, members: Sequence[str], *, close: bool = False) -> int:
    """Let a batch wait for these members no longer. Returns how many it waited for. Raises BatchRefused."""
    names = (keys.batch(bid), keys.batch_jobs(bid))
    call = scripts.Call(lua.load("batch_forget"), names, (bid, int(close), *members))
    try:
        return int(store.push_by(call))
    except errors.StoreUnavailable:
        raise
    except errors.StoreError as error:
        raise refusal(bid, str(error)) or error from None


def prune(store: RedisStore) -> int:
    """Forget batches whose time is over. Returns how many."""
    call = scripts.Call(lua.load("batches_prune"), (keys.BATCHES,), (TTL_SECONDS, PRUNED))
    return int(store.push_by(call))


def require_no_eviction(store: RedisStore) -> None:
    """Refuse batches on a Redis that drops any key when it is full: their counts would be gone.

    Raises:
        BatchRefused: the sentence names the policy.
    """
    try:
        with outages():
            found: Any = store.client.info("memory")
    except errors.StoreUnavailable:
        raise
    except (errors.StoreError, redis.RedisError):
        return  # a Redis that does not say
    policy = found.get("maxmemory_policy", SAFE)
    if found.get("maxmemory") and str(policy).startswith("allkeys"):
        raise errors.BatchRefused(
            f"Redis drops keys when it is full (maxmemory-policy {policy}), and batches with them: "
            "CONFIG SET maxmemory-policy noeviction, and write it to redis.conf"
        )
