from __future__ import annotations

from typing import Any

import pytest

from bridge.cli.active_jobs import _literal


@pytest.mark.parametrize(
    ("value", "ruby"),
    [
        (None, "nil"),
        (True, "true"),
        (1.5, "1.5"),
        ('a"b', '"a\\"b"'),
        ([1, None], "JSON.parse(%q([1, null]))"),
    ],
)
def test_an_argument_is_written_as_ruby_reads_it(value: Any, ruby: str) -> None:
    assert _literal(value) == ruby
