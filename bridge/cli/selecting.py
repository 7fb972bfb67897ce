"""The arguments and options that say which jobs are meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from bridge.cli import completion
from bridge.cli.spans import SPAN
from bridge.sidekiq.api.entries import Place
from bridge.sidekiq.api.filters import Filters

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class PlaceType(click.ParamType[Place]):
    """``retry``, ``schedule``, ``dead`` or ``queue:NAME``."""

    name = "place"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The three sets and every queue."""
        return completion.PLACES(ctx, param, incomplete)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """The place. Fails with what to write."""
        try:
            return value if isinstance(value, Place) else Place.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


PLACE = PlaceType()

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--newer", type=SPAN, metavar="SPAN", help="Only jobs that have waited at most that long."),
    click.option("--older", type=SPAN, metavar="SPAN", help="Only jobs that have waited that long: 30m, 2d."),
    click.option("--error", "error_texts", multiple=True, metavar="TEXT",
                 help="Only jobs whose error's class or message contains this."),
    click.option("--class", "classes", multiple=True, metavar="NAME", shell_complete=completion.CLASSES,
                 help="Only jobs of this class; * stands for anything."),
)  # fmt: skip


def filters(command: Decorated) -> Decorated:
    """``--class``, ``--error``, ``--older`` and ``--newer``."""
    for option in _OPTIONS:
        command = option(command)
    return command


def selection(
    jids: tuple[str, ...],
    classes: tuple[str, ...],
    error_texts: tuple[str, ...],
    older: float | None,
    newer: float | None,
) -> Filters:
    """The options, taken together."""
    return Filters(frozenset(jids), classes, error_texts, older, newer)
