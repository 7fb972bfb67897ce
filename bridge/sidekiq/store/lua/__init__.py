"""The Lua scripts: one file for each move of a job."""

from __future__ import annotations

import functools
from importlib import resources

from bridge.redis.scripts import Script

INCLUDE = "--@include "


@functools.cache
def load(name: str) -> Script:
    """The script in ``<name>.lua``, with its includes written in."""
    return Script.of(name, text(name))


def text(name: str) -> str:
    """The source of ``<name>.lua``, with its includes written in."""
    return "\n".join(_with_includes(_read(name)))


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")


def _with_includes(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        lines.extend(_read(line.removeprefix(INCLUDE)).splitlines() if line.startswith(INCLUDE) else [line])
    return lines
