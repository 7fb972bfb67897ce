from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.sidekiq.payload.timestamps import Timestamps, seconds


def test_seconds_are_always_written_with_a_fractional_part() -> None:
    assert json.dumps(Timestamps.SECONDS.stamp(1_700_000_000)) == "1700000000.0"


def test_milliseconds_are_always_written_as_an_integer() -> None:
    assert json.dumps(Timestamps.MILLISECONDS.stamp(1_700_000_000.1239)) == "1700000000123"


@pytest.mark.parametrize("unit", Timestamps)
def test_what_is_written_is_read_back(unit: Timestamps) -> None:
    assert seconds(unit.stamp(1_700_000_000.5)) == 1_700_000_000.5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_700_000_000, 1_700_000_000.0),
        (1_700_000_000_500, 1_700_000_000.5),
        (1_700_000_000.25, 1_700_000_000.25),
    ],
)
def test_the_unit_is_recognised_whatever_version_wrote_it(value: float, expected: float) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize("value", [None, True, "1700000000", [], {}, float("nan"), float("inf"), 10**400])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert seconds(value) is None
