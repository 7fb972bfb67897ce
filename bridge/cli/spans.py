"""Spans of time, as people write and read them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PARTS = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


class Span(click.ParamType[float]):
    """``90``, ``90s``, ``15m``, ``2h``, ``3d``, ``1w`` or a sum of them: ``1h30m``. In seconds."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds. Fails with what to write."""
        text = str(value).strip().lower()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        if not text or _PARTS.sub("", text).strip():
            self.fail(f"{value!r} is not a span of time: write 90s, 15m, 2h, 3d or 1w", param, ctx)
        return sum(float(number) * _SECONDS[unit] for number, unit in _PARTS.findall(text))


class Seconds(click.FloatRange):
    """A number of seconds within bounds; click's own lets NaN through."""

    name = "seconds"

    def __init__(self, least: float) -> None:
        super().__init__(least, 86_400)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Fails with the bounds."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return number


def seconds_option(flag: str, name: str, least: float, default: float, text: str) -> Callable[[Any], Any]:
    """An option that takes a number of seconds, as the argument ``name``."""
    return click.option(flag, name, type=Seconds(least), default=default, show_default=True, help=text)


SPAN = Span()


def readable(seconds: float | None) -> str:
    """``0.4 s``, ``12 s``, ``3 min``, ``2.5 h``, ``4 d``; empty for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, limit, size in (("s", 120, 1), ("min", 7200, 60), ("h", 172_800, 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def moment(epoch_seconds: float | None) -> str:
    """A time in UTC, as Sidekiq's pages show it; empty for None or another value."""
    if epoch_seconds is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(epoch_seconds, UTC):%Y-%m-%d %H:%M:%S}Z"
    except (ValueError, OverflowError, OSError):  # a score may be anything
        return ""
