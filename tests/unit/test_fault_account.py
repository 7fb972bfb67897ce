"""The account that the fault tests are judged by."""

from __future__ import annotations

from tests.faults.account import LATEST_SECONDS, Account, Ended, Pushed, draw_up

KILLED, ALIVE = 7, 8


def line(event: str, pid: int, at: float, jid: str = "a") -> dict[str, object]:
    return {"jid": jid, "event": event, "pid": pid, "at": at}


def account(*lines: dict[str, object], killed_at: float = 100.0, places: tuple[str, ...] = ()) -> Account:
    pushed = Pushed(frozenset({"a"}), frozenset())
    return draw_up(pushed, lines, places, Ended({KILLED}, {KILLED: killed_at}))


def test_a_job_that_was_pushed_and_is_nowhere_is_lost() -> None:
    assert account(line("started", ALIVE, 1)).lost == ("a",)
    assert account(line("started", ALIVE, 1), places=("a",)).lost == ()
    assert account(line("started", ALIVE, 1), line("done", ALIVE, 2)).lost == ()


def test_a_second_run_needs_a_first_one_that_died() -> None:
    again = (line("started", ALIVE, 101), line("done", ALIVE, 102))

    assert account(line("started", KILLED, 99), *again).unexplained == ()
    assert account(line("started", ALIVE, 99), *again).unexplained == ("a",)


def test_what_was_done_long_before_its_process_was_killed_has_no_reason_to_run_again() -> None:
    # Once a process was killed, whatever it had run in its life was excused.
    first = (line("started", KILLED, 1), line("done", KILLED, 2))
    again = (line("started", ALIVE, 101), line("done", ALIVE, 102))

    assert account(*first, *again, killed_at=2 + LATEST_SECONDS / 2).unexplained == ()
    assert account(*first, *again, killed_at=3 + LATEST_SECONDS).unexplained == ("a",)


def test_a_failure_is_a_reason_to_run_again() -> None:
    runs = [
        line("started", ALIVE, 1),
        line("failed", ALIVE, 2),
        line("started", ALIVE, 3),
        line("done", ALIVE, 4),
    ]
    assert account(*runs).repeats == 0


def test_a_job_that_nobody_pushed_is_a_stranger() -> None:
    assert account(line("started", ALIVE, 1, jid="b")).strangers == ("b",)
