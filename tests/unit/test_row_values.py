"""Values that any client of Redis may write: rows of the Busy page, backtraces, and JSON of any depth."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import pytest

from bridge.monitoring.logs import job_lines
from bridge.sidekiq.api.values import float_of, int_of, object_of
from bridge.sidekiq.outcome.decision import Bury
from bridge.sidekiq.payload import backtrace
from bridge.sidekiq.process import version_probe

#: json.loads raises RecursionError, which is no ValueError.
DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "value",
    [
        b"inf",
        "nan",
        b"1e999",
        pytest.param(10**400, id="huge"),
        pytest.param(-(10**400), id="huge, negative"),
        None,
        [],
        {},
        b"\xff",
    ],
)
def test_a_value_that_is_no_finite_number_is_none(value: Any) -> None:
    """A foreign row with one of them ended `bridge workers` with a traceback."""
    assert float_of(value) == 0.0
    assert int_of(value) == 0


def test_json_that_python_refuses_to_read_is_no_object() -> None:
    assert object_of(DEEP) == {}
    assert object_of(b"\xff\xfe\xfd") == {}
    assert object_of(b'{"a": 1}') == {"a": 1}


def test_json_that_nests_without_end_raises_nowhere() -> None:
    assert version_probe._version_of(DEEP) is None
    assert backtrace.decode(base64.b64encode(zlib.compress(DEEP)).decode()) == []
    assert job_lines._error(Bury(DEEP)) == {}
