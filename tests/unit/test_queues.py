from __future__ import annotations

import random
from collections import Counter

import pytest

from bridge.sidekiq.fetch.queue_set import QueueMode, QueueSet


def test_check_2_strict_queues_are_always_visited_as_given() -> None:
    queues = QueueSet.of([("a", 0), ("b", 0)])
    assert queues.mode is QueueMode.STRICT
    assert {queues.order(random.Random(seed)) for seed in range(20)} == {("a", "b")}


def test_check_3_a_weight_of_three_comes_first_three_times_in_four() -> None:
    queues, rng = QueueSet.of([("a", 3), ("b", 1)]), random.Random(1)
    first = Counter(queues.order(rng)[0] for _ in range(4000))
    assert first["a"] == pytest.approx(3000, rel=0.05)


def test_every_order_names_every_queue_once() -> None:
    queues, rng = QueueSet.of([("a", 5), ("b", 1), ("c", 2)]), random.Random(1)
    assert all(sorted(queues.order(rng)) == ["a", "b", "c"] for _ in range(50))


def test_a_name_given_twice_counts_as_a_weight_of_two() -> None:
    assert QueueSet.of([("a", 0), ("a", 0), ("b", 0)]).weight_by_name == {"a": 2, "b": 1}


def test_equal_weights_of_one_are_random() -> None:
    assert QueueSet.of([("a", 1), ("b", 1)]).mode is QueueMode.RANDOM
