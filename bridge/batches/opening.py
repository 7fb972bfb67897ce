"""New batches, and the block of the moment: a batch inside of another one's block is its child."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from bridge.batches import calls
from bridge.batches.block import Block
from bridge.batches.callbacks import Callback, lines
from bridge.broker import collected
from bridge.broker.context import BrokerContext
from bridge.sidekiq.payload.timestamps import Timestamps

_block: ContextVar[Block | None] = ContextVar("bridge_batch_block", default=None)

#: How many characters of a description Redis keeps.
DESCRIPTION_CHARS = 1000


def new(
    context: BrokerContext,
    bid: str,
    description: str,
    callbacks: Mapping[str, Sequence[Callback]],
    more: Mapping[str, str] | None = None,
    **parts: Any,
) -> Block:
    """The block of a new batch. ``more`` are other fields of its hash, ``parts`` those of the block."""
    outer = _block.get()
    parent = "" if outer is None else outer.bid
    millis = context.rules().timestamps is Timestamps.MILLISECONDS
    fields: dict[str, str | bytes] = {"stamp": "ms" if millis else "s", **(more or {})}
    fields |= {f"on_{event}": lines(found, parent) for event, found in callbacks.items() if found}
    if description:
        fields["description"] = description[:DESCRIPTION_CHARS]
    return Block(bid, {**fields, "parent": parent} if parent else fields, is_new=True, **parts)


def is_collecting() -> bool:
    """Whether a block takes the pushes of the moment."""
    return _block.get() is not None


@contextmanager
def collecting(block: Block) -> Iterator[None]:
    """Give the pushes and the new batches inside to this block."""
    token = _block.set(block)
    try:
        with collected.collecting(block.add):
            yield
    finally:
        _block.reset(token)


def push(context: BrokerContext, block: Block) -> None:
    """Write a block; that of a new batch inside of another block is written with the other.

    Raises:
        BatchRefused: the batch is finished or forgotten, or Redis drops keys when it is full.
        StoreUnavailable: Redis does not answer.
    """
    outer = _block.get()
    if not block.is_new:
        block.write(context)
    elif outer is not None:
        outer.children.append(block)
    else:
        calls.require_no_eviction(context.store())
        block.write(context)
        calls.prune(context.store())
