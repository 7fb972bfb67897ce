"""The thread that follows the moves: it sleeps while there are none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from bridge.moves.dry_runs import DryRuns
from bridge.moves.follower import MoveFollower
from bridge.moves.move import Move
from bridge.moves.runs import Runs
from bridge.moves.shadow import Shadows
from bridge.moves.store import Moves, MoveStore
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for, wait_until_equal

#: Rounds that a start makes: it arms its watch, and reads.
MOST_ROUNDS = 3


class Following:
    """A follower in its thread, as a worker has it."""

    def __init__(self, store: MoveStore) -> None:
        self.rounds = 0
        self.heeded: list[tuple[Moves, Moves]] = []
        shadows = Shadows(lambda: store.client, lambda name: False, DryRuns(dict))
        self.follower = MoveFollower(store, Runs(), shadows, lambda *moves: self.heeded.append(moves))
        self._stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self._stopping:
            pause = self.follower.round()
            self.rounds += 1
            time.sleep(pause)

    def stop(self) -> None:
        self._stopping = True
        self.follower.interrupt()
        self.thread.join(2.0)
        assert not self.thread.is_alive()
        self.follower.close()


@pytest.fixture
def store(own_server: RedisServer) -> Iterator[MoveStore]:
    with own_server.client() as client:
        yield MoveStore(client)


@pytest.fixture
def following(store: MoveStore) -> Iterator[Following]:
    made = Following(store)
    yield made
    made.stop()


def test_a_worker_without_a_move_does_not_wake_up_for_moves(following: Following) -> None:
    """It looked four times a second: a quarter of what an idle worker costs."""
    wait_for(lambda: following.rounds, "the first round")
    time.sleep(2.0)
    assert following.rounds <= MOST_ROUNDS


def test_the_first_move_wakes_the_thread_that_sleeps(following: Following, store: MoveStore) -> None:
    def percent() -> float | None:
        move = following.follower.moves.get("J")
        return move.percent if move else None

    def change(wanted: float | None) -> None:
        store.change("J", lambda _, now: Move("J").at(now, percent=wanted) if wanted else None)

    for wanted in (5.0, None, 20.0):
        time.sleep(0.6)
        change(wanted)
        wait_until_equal(percent, wanted, "the change to be heeded", 1.0)


def test_a_cut_connection_does_not_hide_a_move(following: Following, store: MoveStore) -> None:
    wait_for(lambda: following.rounds, "the first round")
    store.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    store.change("J", lambda _, now: Move("J").at(now, percent=5.0))
    wait_for(lambda: "J" in following.follower.moves, "the move", 3.0)


def test_a_field_that_makes_no_sense_holds_its_class_in_ruby(following: Following, store: MoveStore) -> None:
    """It counted as no move, so a worker ran all jobs of a class at 5 % in Python."""
    store.change("J", lambda _, now: Move("J").at(now, percent=5.0))
    wait_for(lambda: "J" in following.follower.moves, "the move")
    store.client.hset("bridge:moves", "J", "\xff")
    wait_for(lambda: following.follower.moves["J"].is_back, "the class to be held in Ruby", 2.0)
    assert following.follower.moves["J"].reason == "its field in bridge:moves makes no sense"
    store.change("J", lambda before, now: (before or Move("J")).at(now, percent=7.0))
    wait_for(lambda: following.follower.moves["J"].percent == 7, "the next command", 2.0)


def test_a_finished_move_is_kept_while_an_orphaned_job_may_run_in_ruby(
    following: Following, store: MoveStore
) -> None:
    def finish(days: float) -> None:
        store.change("J", lambda _, now: Move("J").at(now - int(days * 86_400_000), is_finished=True))

    store.change("J", lambda _, now: Move("J").at(now, percent=5.0))
    wait_for(lambda: "J" in following.follower.moves, "the move")
    finish(days=0)
    wait_for(lambda: following.heeded[-1][1].keys() == {"J"}, "the end to be heeded", 2.0)
    assert following.follower.moves == store.all() == {}
    assert store.client.hexists("bridge:moves", "J")
    # Another command begins at zero, and the end of a move is forgotten after three days.
    store.change("J", lambda before, now: Move("J").at(now, percent=7.0) if before is None else before)
    assert store.all()["J"].percent == 7
    finish(days=3.1)
    wait_for(lambda: not store.client.exists("bridge:moves"), "the field to be removed", 2.0)
