from __future__ import annotations

import random
from collections import Counter

import pytest

from bridge.sidekiq.fetch.queues import QueueMode, QueueOrder, QueueSet


def served(**weights: int) -> QueueOrder:
    order = QueueOrder()
    for name, weight in weights.items():
        order.add(name, weight)
    return order


def test_check_2_strict_queues_are_always_visited_as_given() -> None:
    order = served(b=0, a=0)
    assert order.queues.mode is QueueMode.STRICT
    assert order.names == ("b", "a")
    assert order.draw(3, random.Random(1)) == ()


def test_check_3_a_weight_of_three_comes_first_three_times_in_four() -> None:
    drawn = served(a=3, b=1).draw(4000, random.Random(1))
    assert Counter(each[0] for each in drawn)[0] == pytest.approx(3000, rel=0.05)


def test_every_order_names_every_queue_once() -> None:
    drawn = served(a=5, b=1, c=2).draw(50, random.Random(1))
    assert all(sorted(each) == [0, 1, 2] for each in drawn)


def test_a_queue_without_a_weight_among_weighted_ones_has_one_ticket() -> None:
    order = served(a=5, b=0)
    assert order.queues.weight_by_name == {"a": 5, "b": 1}
    assert all(len(each) == 2 for each in order.draw(50, random.Random(1)))
    order.remove("a")
    assert order.names == ("b",)


def test_a_name_given_twice_counts_as_a_weight_of_two() -> None:
    assert QueueSet.of([("a", 0), ("a", 0), ("b", 0)]).weight_by_name == {"a": 2, "b": 1}


def test_equal_weights_of_one_are_random() -> None:
    assert QueueSet.of([("a", 1), ("b", 1)]).mode is QueueMode.RANDOM
