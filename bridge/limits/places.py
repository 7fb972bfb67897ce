"""Asks for the places of claimed jobs, in the order of their claims over all workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis

from bridge.limits import calls
from bridge.limits.claim_times import ClaimTimes
from bridge.limits.gates import Gates, Limits, job_id
from bridge.redis import scripts
from bridge.redis.outages import outages
from bridge.redis.pipeline import KeptConnection
from bridge.sidekiq.fetch.marked_claims import REMEMBERED_SECONDS, MarkedClaims
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.payload.options import LIMIT
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.claims import ClaimMark

#: Seconds between two questions of a job that waits for earlier claims, and at most.
ASK_AGAIN_SECONDS, LONGEST_WAIT_SECONDS = 0.0005, 0.5
#: In the payload of a job that brings its limit along.
OWN_MARK = f'"{LIMIT}"'

Asked = Sequence[tuple[UnitOfWork, Gates]]
_Take = Callable[..., scripts.Call]


class Places:
    """For the consumer's thread. Each call raises StoreError."""

    def __init__(self, client: redis.Redis, limits: Limits, on_claim_ended: Callable[[], object]) -> None:
        """``on_claim_ended``: lines that waited for a claim of this worker may go on."""
        self._client = client
        self._line = KeptConnection(client)
        self._limits = limits
        self._on_claim_ended = on_claim_ended
        self._times = ClaimTimes()
        self._taught = False

    def ask(self, asked: Asked, marked: MarkedClaims, marks: Sequence[ClaimMark]) -> list[Any]:
        """The answers of ``limit_take.lua``, or errors of Redis: one for each job."""
        self._teach()
        takes: list[_Take] = []
        for (unit, gates), claimed_at in zip(asked, self._times.times(asked, marks), strict=True):
            if LIMIT in unit.job.fields:
                marked.add((OWN_MARK,), (unit.delivery.queue,), REMEMBERED_SECONDS)
            takes.append(self._take(unit, gates, claimed_at))
        return self._answers(takes, _ends(marks))

    def end(self, marks: Sequence[ClaimMark]) -> None:
        """No job of these claims has a limit, though it looked so."""
        if ends := _ends(marks):
            self._send([], ends)

    def _teach(self) -> None:
        """A script that Redis does not know is called again, behind those that it has learned meanwhile."""
        if not self._taught:
            with outages():
                scripts.load(self._client, (lua.load("limit_take"), lua.load("limit_claimed")))
            self._taught = True

    def _take(self, unit: UnitOfWork, gates: Gates, claimed_at: str) -> _Take:
        identity, token, queue, payload = unit.delivery[:4]
        return partial(
            calls.take, gates, self._limits.queues(gates, queue),
            identity=identity, token=token, job_id=job_id(unit.job), queue=queue,
            payload=payload if unit.job.queue is not None else _with_queue(unit), claimed_at=claimed_at,
        )  # fmt: skip

    def _answers(self, takes: Sequence[_Take], ends: list[scripts.Call]) -> list[Any]:
        """Ask again for a job that must wait, because jobs of an earlier claim may need the room."""
        answers = self._send([take() for take in takes], ends)
        give_up_at = time.monotonic() + LONGEST_WAIT_SECONDS
        while later := [number for number, answer in enumerate(answers) if _is_later(answer)]:
            time.sleep(ASK_AGAIN_SECONDS)
            turn = calls.AGAIN if time.monotonic() < give_up_at else calls.NOW
            again = self._send([takes[number](turn=turn) for number in later], ends)
            for number, answer in zip(later, again, strict=True):
                answers[number] = answer
        return answers

    def _send(self, takes: list[scripts.Call], ends: list[scripts.Call]) -> list[Any]:
        """``ends``: these say that the claims of the jobs have ended."""
        answers = scripts.run(self._client, [*takes, *ends], self._line.send)
        if 1 in answers[len(takes) :]:
            self._on_claim_ended()
        return answers[: len(takes)]


def _with_queue(unit: UnitOfWork) -> bytes:
    """The payload for schedule, with its queue: the page of Sidekiq 8.1 raises at an entry without one.

    A job without a usable jid is known by its bytes, and keeps them.
    """
    job, (_, _, queue, payload, *_) = unit.job, unit.delivery
    return job.with_fields({"queue": queue}) if job_id(job) == job.jid else payload


def _ends(marks: Sequence[ClaimMark]) -> list[scripts.Call]:
    return [calls.claimed(mark.name) for mark in marks if mark.jobs]


def _is_later(answer: Any) -> bool:
    return isinstance(answer, list) and answer[0] == calls.LATER
