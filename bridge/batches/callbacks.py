"""A callback of a batch: the job that follows an event, as Redis keeps it until then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from bridge.batches.effects import FIELD
from bridge.broker import collected
from bridge.broker.messages import Push
from bridge.errors import PushRefused
from bridge.sidekiq.payload import ruby_json
from bridge.sidekiq.payload.job import SidekiqJob

#: The events, in the order in which they come.
EVENTS = ("complete", "success", "death")

#: Written, or counted from, when the callback is pushed.
_TIMES = ("created_at", "enqueued_at", "expiry")


class Callback(NamedTuple):
    """A job that waits for an event."""

    jid: str
    queue: str
    fields: Mapping[str, Any]

    def line(self, parent: str) -> bytes:
        """As ``batch_fire.lua`` reads it. A child batch's callback is a job of the parent."""
        fields = {name: value for name, value in self.fields.items() if name not in _TIMES}
        if parent and FIELD not in fields:
            fields[FIELD] = parent
        payload = ruby_json.encode({"args": fields.pop("args", []), **fields})
        return f"{self.jid}\n{self.queue}\n".encode() + payload.removesuffix(b"}") + b"\n"


def lines(found: Sequence[Callback], parent: str) -> bytes:
    """The callbacks of one event."""
    return b"".join(one.line(parent) for one in found)


def callbacks(app: Any, event: str, job: Any, args: Sequence[Any]) -> list[Callback]:
    """Make the callbacks of a class by its name, a task, or a signature; a group makes several.

    Raises:
        PushRefused: the job cannot be pushed; or it is to be pushed at a time of its own, or through Ruby.
    """
    found: list[tuple[Push, bool]] = []
    with collected.collecting(lambda push, name, implied: found.append((push, implied is not None))):
        _send(app, event, job, args)
    return [_callback(event, push, through_ruby) for push, through_ruby in found]


def _callback(event: str, push: Push, through_ruby: bool) -> Callback:
    if push.at is not None:
        raise PushRefused(f"on_{event}: a callback is pushed when the event comes: remove countdown and eta.")
    if through_ruby:
        raise PushRefused(f"on_{event}: a callback does not pass the Rails app: write ruby_client=False.")
    made = SidekiqJob.parse(push.payload)
    return Callback(made.jid or "", push.queue, made.fields)


def _send(app: Any, event: str, job: Any, args: Sequence[Any]) -> None:
    """Push the callback into the collector around this. Where Ruby pushes by default, callbacks do not."""
    if isinstance(job, str):
        app.send_task(job, args=list(args), ruby_client=False)
    elif isinstance(job, dict) and str(job.get("task")).startswith("celery."):  # a chain, or a group
        cast(Any, job).apply_async(args=tuple(args))
    elif isinstance(job, dict) and "task" in job:  # a signature
        given = [*(() if job.get("immutable") else args), *(job.get("args") or ())]
        options = {"ruby_client": False, **(job.get("options") or {})}
        app.send_task(job["task"], args=given, kwargs=job.get("kwargs") or None, **options)
    elif hasattr(job, "apply_async") and isinstance(getattr(job, "name", None), str):  # a task
        app.send_task(job.name, args=list(args), ruby_client=False)
    else:
        raise PushRefused(f'on_{event}: {job!r}: write a class ("ReportJob"), a task or a signature.')
