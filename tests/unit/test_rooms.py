from __future__ import annotations

from collections import Counter

import pytest

from bridge.sidekiq.fetch.capsules import Capsules
from bridge.sidekiq.fetch.queues import Capsule
from bridge.sidekiq.fetch.rooms import QueueRooms, Room, fitted
from bridge.sidekiq.fetch.unit_of_work import Delivery, Fetched, UnitOfWork
from bridge.sidekiq.payload.job import SidekiqJob

NAMES = ("default", "serial", "mail")


def room(jobs: int, *queues: str) -> Room:
    return Room(frozenset(queues), jobs)


def unit(token: int, queue: str) -> UnitOfWork:
    return UnitOfWork(Delivery("h:1:a", token, queue, b"{}", 0), SidekiqJob(b"{}", {}))


def visits(orders: tuple[tuple[int, ...], ...]) -> Counter[str]:
    return Counter(NAMES[index] for order in orders for index in order)


@pytest.mark.parametrize("drawn", [(), tuple((2, 1, 0) for _ in range(5))], ids=["strict", "weighted"])
def test_as_many_slots_visit_a_limited_queue_as_it_has_room_for(drawn: tuple[tuple[int, ...], ...]) -> None:
    orders = fitted([room(2, "serial")], NAMES, drawn, 5)
    assert len(orders) == 5
    assert visits(orders) == {"default": 5, "serial": 2, "mail": 5}
    assert [1 in order for order in orders] == [False, False, False, True, True]


def test_queues_of_one_capsule_share_its_room() -> None:
    orders = fitted([room(1, "serial", "mail")], NAMES, (), 4)
    assert sum(1 in order or 2 in order for order in orders) == 1


def test_the_narrowest_room_counts() -> None:
    assert visits(fitted([room(3, "serial"), room(1, "serial")], NAMES, (), 4))["serial"] == 1


def test_a_claim_that_may_visit_no_queue_has_no_orders() -> None:
    assert fitted([room(0, *NAMES)], NAMES, (), 4) == ()
    assert fitted([room(-3, *NAMES)], NAMES, (), 4) == ()


# -- one process


@pytest.fixture
def held() -> dict[int, UnitOfWork]:
    return {}


@pytest.fixture
def rooms(held: dict[int, UnitOfWork]) -> QueueRooms:
    made = QueueRooms(held)
    made.add(Capsules([Capsule("one", frozenset(["serial", "other"]), 2)]))
    made.freed = False
    return made


def test_without_limits_the_drawn_orders_are_used_and_a_result_is_untouched() -> None:
    rooms, fetched = QueueRooms({}), Fetched(drained=True)
    assert rooms.orders(NAMES, ((1, 0, 2),), 1) == ((1, 0, 2),)
    assert rooms.heeded(fetched) is fetched


def test_a_capsule_counts_the_jobs_of_all_its_queues(rooms: QueueRooms, held: dict[int, UnitOfWork]) -> None:
    held.update({1: unit(1, "other"), 2: unit(2, "default")})
    orders = rooms.orders(NAMES, (), 3)
    assert orders is not None
    assert visits(orders) == {"default": 3, "serial": 1, "mail": 3}


def test_a_full_queue_is_not_watched(rooms: QueueRooms, held: dict[int, UnitOfWork]) -> None:
    """Its jobs would answer the watch at once, again and again."""
    held.update({1: unit(1, "serial"), 2: unit(2, "serial")})
    assert rooms.heeded(Fetched(drained=True)).paused == {"serial", "other"}
    assert rooms.cut("serial", [b"a", b"b"]) == []
    assert rooms.cut("default", [b"a", b"b"]) == [b"a", b"b"]


def test_room_that_is_left_during_a_claim_asks_for_another(rooms: QueueRooms) -> None:
    rooms.let_go(unit(1, "serial"))
    assert not rooms.heeded(Fetched(drained=True)).drained


def test_a_capsule_learns_its_queues_one_by_one_and_its_last_limit_counts() -> None:
    capsules = Capsules()
    capsules.learn(Capsule("one", frozenset(["a"]), 2))
    capsules.learn(Capsule("one", frozenset(["b"]), 3))
    assert list(capsules.rooms(Counter(a=1))) == [Room(frozenset(["a", "b"]), 2)]
    assert capsules.limited == {"a", "b"}
