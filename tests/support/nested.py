"""Signals within signals: Python runs a handler between any two steps of the main thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def run_nested(outer: Callable[[], Any], inner: Callable[[], Any], step: int, folder: str) -> bool:
    """Run ``outer``, and ``inner`` before the given step (a bytecode) of the code in ``folder``.

    Returns whether ``outer`` has that many steps. The code of ``inner`` itself has none: it is run at once.
    """
    left = step

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if folder not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            left -= 1
            if left == -1:
                inner()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        outer()
    finally:
        sys.settrace(before)
    return left < 0
