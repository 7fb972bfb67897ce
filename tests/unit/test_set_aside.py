"""Jobs that are set aside for their time, and Redis' note that they have not begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge.sidekiq.fetch.set_aside import SetAside
from bridge.sidekiq.fetch.unit_of_work import Delivery


class Marks:
    """What Redis knows. ``meanwhile`` runs before a note arrives there, as another thread would."""

    def __init__(self) -> None:
        self.tokens: set[int] = set()
        self.meanwhile: Callable[[], Any] = lambda: None

    def note_unbegun(self, identity: str, token: int) -> None:
        self.meanwhile()
        self.tokens.add(token)

    def forget_unbegun(self, identity: str, *tokens: int) -> None:
        self.tokens.difference_update(tokens)


def test_a_job_that_is_taken_while_it_is_noted_leaves_no_mark() -> None:
    """The mark came after it was forgotten. A crash then never counted the run of that job."""
    marks = Marks()
    aside = SetAside(marks, lambda: None)
    # Given a job that is taken before the note of it arrives
    marks.meanwhile = lambda: aside.take(1)
    # When it is set aside
    aside.add(Delivery("host:1", 1, "default", b"{}", 0))
    # Then Redis knows it as begun
    assert marks.tokens == set()


def test_a_job_that_waits_is_marked_until_it_is_taken() -> None:
    marks = Marks()
    aside = SetAside(marks, lambda: None)
    aside.add(Delivery("host:1", 1, "default", b"{}", 0))
    assert marks.tokens == {1}
    assert aside.take(1)
    assert marks.tokens == set()
