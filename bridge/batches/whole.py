"""A chord of Celery's is pushed as a whole: its batch and its header in one step.

Celery opens the batch and then pushes the jobs of the header one by one. A process that dies in between would
leave a batch that waits for jobs that are nowhere. A refused job of a group or chord would leave the others
running.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any, cast

from celery import canvas

from bridge.batches import calls, opening
from bridge.batches.block import Block, Member
from bridge.broker.context import BrokerContext
from bridge.broker.messages import Push


class Whole(Block):
    """Takes the jobs of a group, or the batches and the jobs of a chord and of those in its header."""

    def __init__(self) -> None:
        super().__init__("", {}, is_new=False)

    def add(self, push: Push, job_class: str, implied: Collection[str] | None) -> None:
        """Take a push. The first step of a chain in the header is a job of none of the batches."""
        if self.owner_of(push) is None:
            self.foreign.append(Member("", job_class, push, implied))
        else:
            super().add(push, job_class, implied)

    def write(self, context: BrokerContext) -> None:
        """Write the first batch with all others in its hands: none of its callbacks precedes their pushes."""
        if not self.children:  # a group; or a chord without a header, whose body runs at once
            for member in self.foreign:
                context.write(member.push, member.job_class, member.implied)
            return
        calls.require_no_eviction(context.store())
        first, *others = self.children
        first.children += others
        first.foreign += self.foreign
        first.write(context)
        calls.prune(context.store())


def install(application: type) -> None:
    """Let groups and chords of this class of applications be whole. All others stay Celery's."""
    _wrap(canvas.chord, "run", application)
    _wrap(canvas.group, "apply_async", application)


def _wrap(kind: Any, name: str, application: type) -> None:
    celerys = getattr(kind, name)

    @functools.wraps(celerys)
    def pushing(self: Any, *args: Any, **options: Any) -> Any:
        app = options.get("app") or self.app
        if not isinstance(app, application) or opening.is_collecting():
            return celerys(self, *args, **options)
        whole = Whole()
        with opening.collecting(whole):
            result = celerys(self, *args, **options)
        whole.write(cast(Any, app).bridge.context)
        return result

    setattr(kind, name, pushing)
