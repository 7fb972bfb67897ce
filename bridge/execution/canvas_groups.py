"""A group or chord that follows a job: all that Celery's canvas would push, as data in the payload.

Celery pushes it when the job before is done. Here the process that pushes the first job lets Celery's canvas
prepare it, and collects the pushes and the batches of chords. The settlement writes them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from bridge.batches import opening
from bridge.batches.block import Block, Member
from bridge.broker.messages import Push
from bridge.errors import PushRefused
from bridge.results.following import FIELD, MANY

#: Stands for the result of the job before.
_RESULT = "bridge:result"
_WRITTEN = ("created_at", "enqueued_at", "expiry")


class _Captured(Block):
    """Takes all that is pushed and opened."""

    def __init__(self) -> None:
        super().__init__("", {}, is_new=False)

    def add(self, push: Push, job_class: str, implied: Any) -> None:
        """Take a push as it is."""
        if implied is not None:
            raise PushRefused(
                f"{job_class}: a job of a canvas does not pass the Rails app: write ruby_client=False."
            )
        self.members.append(Member("", job_class, push, None))


def many_step(signature: Any, rest: Sequence[Any]) -> dict[str, Any]:
    """The step of a group or chord. ``rest`` follows it, in the order in which it runs.

    Raises:
        PushRefused: one of its jobs cannot be pushed.
    """
    captured = _Captured()
    more = {"chain": list(reversed(rest))} if rest else {}
    with opening.collecting(captured):
        signature.clone().apply_async(args=(_RESULT,), **more)
    for block in captured.children:
        signature.app.bridge.context.note_queued(block.ends)
    return {
        MANY: [_step(member.push) for member in captured.members],
        "batches": [_batch(block) for block in captured.children],
    }


def _step(push: Push) -> dict[str, Any]:
    fields = {name: value for name, value in json.loads(push.payload).items() if name not in _WRITTEN}
    args, after = fields.pop("args"), fields.pop(FIELD, None)
    takes = bool(args) and args[0] == _RESULT
    step = {"class": fields.pop("class"), "args": args[1:] if takes else args, "queue": fields.pop("queue")}
    step |= {"jid": fields.pop("jid"), "immutable": not takes, "options": fields}
    if push.at is not None:
        step["countdown"] = max(0.0, push.at - time.time())
    return {**step, "next": after} if after else step


def _batch(block: Block) -> dict[str, Any]:
    fields = {
        name: value if isinstance(value, str) else value.decode() for name, value in block.fields.items()
    }
    return {"bid": block.bid, "fields": fields, "jobs": list(block.expected)}
