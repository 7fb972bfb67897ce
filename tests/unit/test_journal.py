"""The journal, which any thread may add to at any moment."""

from __future__ import annotations

import sys
import threading

from bridge.sidekiq.fetch.journal import Journal
from bridge.sidekiq.fetch.listeners import JobListeners
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.outcome.decision import Decision, Done, GiveBack
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.effects import Effect, EffectSource, SettlementEffects

COUNT = 20_000


def unit(token: int) -> UnitOfWork:
    return UnitOfWork(Delivery("h:1:a", token, "default", b"{}", 0), SidekiqJob(b"{}", {}))


def test_no_decision_falls_between_release_and_another_thread_that_adds() -> None:
    """``release`` put another list in the place of the one that a thread was just adding to."""
    journal = Journal(JobListeners())
    journal.keep_order()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        adding = threading.Thread(
            target=lambda: [journal.add(unit(token), GiveBack()) for token in range(COUNT)]
        )
        adding.start()
        found = 0
        while adding.is_alive() or len(journal):
            found += len(journal.batch().decided)
        adding.join()
    finally:
        sys.setswitchinterval(interval)
    assert found == COUNT


def test_an_add_that_is_interrupted_within_its_append_is_not_lost() -> None:
    """The moment itself: the other thread holds the list and has not appended yet."""
    journal = Journal(JobListeners())
    journal.keep_order()
    journal.add(unit(1), GiveBack())
    append = journal.returning.append
    journal._release()
    append((unit(2), GiveBack()))
    journal._release()
    assert [each.delivery.token for each, _ in journal.batch().decided] == [1, 2]


def test_what_is_given_back_goes_in_the_order_of_the_claims() -> None:
    journal = Journal(JobListeners())
    journal.keep_order()
    for token in (2, 3, 1):
        journal.add(unit(token), GiveBack())
    journal._release()
    assert [each.delivery.token for each, _ in journal.batch().decided] == [3, 2, 1]


def test_sources_of_effects_are_asked_about_their_jobs_alone() -> None:
    """Each source was a file on the way of each job, whatever the job."""
    asked: list[str] = []

    def source(name: str) -> EffectSource:
        def ask(job: SidekiqJob, decision: Decision, identity: str, token: int) -> tuple[Effect, ...]:
            asked.append(f"{name} {job.jid}")
            return ()

        return ask

    effects = SettlementEffects()
    effects.add(source("batch"), "bridge_batch")
    journal = Journal(JobListeners(), effects)
    for token, jid, fields, tracked in (
        (1, "plain", b"", False),
        (2, "member", b',"bridge_batch":"b"', False),
        (3, "tracked", b"", True),
    ):
        payload = b'{"jid":"%s","class":"X"%s}' % (jid.encode(), fields)
        delivery = Delivery("h:1:a", token, "default", payload, 0, tracked=tracked)
        journal.add(UnitOfWork(delivery, SidekiqJob.parse(payload)), Done())
    journal.batch()
    assert asked == ["batch member", "batch tracked"]

    effects.sources.append(source("every"))
    journal.add(unit(4), Done())
    journal.batch()
    assert asked[2:] == ["batch None", "every None"]
