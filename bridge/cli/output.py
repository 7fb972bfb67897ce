"""How results are shown: tables for people, JSON for scripts."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.monitoring.log_text import escaped

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Wide enough for a line of a log file; a terminal says its own width.
PIPE_COLUMNS = 160


def json_option(command: Decorated) -> Decorated:
    """``--json`` as ``as_json``."""
    option: Callable[[Decorated], Decorated] = click.option(
        "--json", "as_json", is_flag=True, help="Print JSON for scripts instead of a table."
    )
    return option(command)


def yes_option(command: Decorated) -> Decorated:
    """``--yes`` as ``yes``."""
    option: Callable[[Decorated], Decorated] = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
    return option(command)


def console(*, stderr: bool = False) -> Console:
    """Made for each use: a test may have replaced the streams."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPE_COLUMNS, highlight=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> Table:
    """A table; columns whose name starts with ``>`` are numbers, set to the right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left")
    for row in rows:
        # Text: a class or message from a payload may hold what looks like rich's markup.
        made.add_row(*(cell if isinstance(cell, Text) else Text(escaped(str(cell))) for cell in row))
    return made


def print_json(value: object) -> None:
    """One document on one line."""
    click.echo(json.dumps(plain(value), ensure_ascii=False))


def plain(value: object) -> Any:
    """What JSON can hold: dataclasses become objects, bytes text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 job``, ``1,204 jobs``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone. Ends the command (exit 1) when the answer is no."""
    if not yes:
        click.confirm(question, abort=True, err=True)
