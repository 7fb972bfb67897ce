"""Celery's groups and chords: a chord is a batch of the header's jobs, and the body is its ``on_success``.

Celery prepares a chord in the process that pushes it (``_chord.run`` of celery/canvas.py). It gives every
task of the header its id, calls ``backend.apply_chord``, and pushes the header with the options ``chord``
and ``group_id``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from celery.result import GroupResult, result_from_tuple

from bridge.batches import opening
from bridge.batches.callbacks import Callback, callbacks
from bridge.batches.effects import FIELD
from bridge.redis.outages import outages
from bridge.results.tracking import NEXT_FIELD
from bridge.sidekiq import keys
from bridge.sidekiq.payload import new_job
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.payload.tracked import FIELD as TRACK_FIELD

#: Stands in the body for the list of results; batch_chord.lua replaces it.
RESULTS = "bridge:results"
#: Stands in an error handler for the reason why the body does not run; batch_body.lua replaces it.
REASON = "bridge:chord_error"


def taken_fields(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a job that Celery pushes for a group or chord. Takes their options out of ``options``.

    The results of both are wanted, so their jobs are tracked.
    """
    if "group_id" not in options and "chord" not in options:
        return {}
    group, chord = options.pop("group_id", None), options.pop("chord", None)
    options.pop("group_index", None)
    if chord is not None:
        return {FIELD: group, TRACK_FIELD: True}
    return {} if group is None or options.get("ignore_result") else {TRACK_FIELD: True}


class Chords:
    """The part of a result backend that Celery's canvas asks. ``app`` is the backend's."""

    app: Any

    def ensure_chords_allowed(self) -> None:
        """They are."""

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Nothing: the batch counts its members."""

    def apply_chord(self, header_result_args: tuple[str, Iterable[Any]], body: Any, **_: Any) -> None:
        """Open the batch of a chord. Celery pushes the header next.

        Raises:
            PushRefused: the body cannot be pushed.
        """
        group_id, results = header_result_args
        order, ends = list(_jids(results)), list(_jids([body.freeze(body.id)]))
        found = {"success": callbacks(self.app, "success", body, [RESULTS])}
        context = self.app.bridge.context
        found["death"] = handlers(found["success"], context.rules().timestamps)
        more = {"chord": " ".join(ends)}
        told = [(jid, body.name, None) for jid in ends]
        block = opening.new(context, group_id, f"chord: {body!r}", found, more, expected=order, ends=told)
        opening.push(context, block)

    def save_group(self, group_id: str, result: Any) -> Any:
        """Keep the jids of a group as long as a result."""
        text = json.dumps(result.as_tuple())
        with outages():
            self._client().set(keys.group(group_id), text, ex=self.app.bridge.result_ttl_seconds)
        return result

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        """The group with this id; None if it was not saved, or its time is over."""
        with outages():
            found = self._client().get(keys.group(group_id))
        return None if found is None else result_from_tuple(json.loads(found), self.app)

    def delete_group(self, group_id: str) -> None:
        """Forget the group; its jobs stay."""
        with outages():
            self._client().delete(keys.group(group_id))

    def _client(self) -> Any:
        return self.app.bridge.store.client


def handlers(body: Sequence[Callback], timestamps: Timestamps) -> list[Callback]:
    """The error handlers of the body: they follow the first death in the header, as in Celery."""
    return [
        _handler(one, step, timestamps)
        for one in body
        for step in (one.fields.get(NEXT_FIELD) or {}).get("error") or ()
    ]


def _handler(body: Callback, step: Mapping[str, Any], timestamps: Timestamps) -> Callback:
    name, queue, jid = str(step["class"]), str(step["queue"]), str(step["jid"])
    options = {**step["options"], **({NEXT_FIELD: step["next"]} if step.get("next") else {})}
    args = list(step["args"])
    if step.get("errback"):
        args.append(
            {
                "id": body.jid,
                "task": body.fields["class"],
                "args": [],
                "error_class": "celery.exceptions.ChordError",
                "error_message": REASON,
            }
        )
    elif not step.get("immutable"):
        args.insert(0, body.jid)
    payload = new_job.payload(name, args, queue, jid, 0.0, timestamps, options, scheduled=False)
    return Callback(jid, queue, json.loads(payload))


def _jids(results: Iterable[Any]) -> Iterator[str]:
    """The jobs whose results count, in their order."""
    for result in results:
        if isinstance(result, GroupResult):
            yield from _jids(result.results or ())
        else:
            yield result.id
