from __future__ import annotations

import base64
import json
import traceback
import zlib

from hypothesis import given
from hypothesis import strategies as st

from bridge.sidekiq.payload import backtrace


def decoded(text: str) -> list[str]:
    lines: list[str] = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
    return lines


def inner() -> None:
    raise ValueError("deep")


def failure() -> BaseException:
    try:
        inner()
    except ValueError as error:
        return error
    raise AssertionError("unreachable")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_check_34_lines_are_strict_base64_of_deflated_json(lines: list[str]) -> None:
    encoded = backtrace.encode(lines)
    assert "\n" not in encoded
    assert decoded(encoded) == lines


def test_the_innermost_frame_comes_first_as_in_ruby() -> None:
    lines = backtrace.python_lines(failure())
    assert lines[0].startswith(__file__)
    assert lines[0].endswith("in `inner'")
    assert lines[1].endswith("in `failure'")


def test_a_tracebacks_text_gives_the_same_lines_as_its_exception() -> None:
    error = failure()
    assert backtrace.python_lines("".join(traceback.format_exception(error))) == backtrace.python_lines(error)


def test_of_chained_tracebacks_the_last_is_the_errors_own() -> None:
    first = 'Traceback (most recent call last):\n  File "a.py", line 1, in cause\nKeyError\n'
    own = 'Traceback (most recent call last):\n  File "b.py", line 2, in effect\nValueError\n'
    text = f"{first}\nDuring handling of the above exception, another exception occurred:\n\n{own}"
    assert backtrace.python_lines(text) == ["b.py:2:in `effect'"]


def test_check_58_html_in_a_frame_is_escaped() -> None:
    text = 'Traceback (most recent call last):\n  File "a&b.py", line 3, in <module>\nValueError\n'
    assert backtrace.python_lines(text) == ["a&amp;b.py:3:in `&lt;module&gt;'"]


def test_text_without_frames_comes_line_by_line() -> None:
    assert backtrace.python_lines("killed by signal 9\n\n<late>") == ["killed by signal 9", "&lt;late&gt;"]


def test_an_exception_that_was_never_raised_has_no_lines() -> None:
    assert backtrace.python_lines(ValueError("x")) == []
