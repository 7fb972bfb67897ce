"""``bridge config show``: what is in force, and where it was said."""

from __future__ import annotations

import click

from bridge.cli import output
from bridge.settings.sources import DEFAULT, Origin, origins


@click.group("config")
def config() -> None:
    """Look at the settings."""


@config.command("show")
@click.option("--changed", is_flag=True, help="Only the settings that differ from their defaults.")
@output.json_option
def show(changed: bool, as_json: bool) -> None:
    """Print every setting in force and where its value comes from. Secrets are masked."""
    found = [origin for origin in origins() if not changed or origin.source != DEFAULT]
    if as_json:
        output.print_json(found)
        return
    output.console().print(output.table(("setting", "value", "from"), map(_row, found)))


def _row(origin: Origin) -> tuple[str, str, str]:
    return origin.variable, origin.value, origin.source
