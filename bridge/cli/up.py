"""``bridge up``: a sidecar and several workers under one command."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from bridge.errors import EX_CONFIG, ConfigurationError
from bridge.settings import load
from bridge.settings.systemd import ServiceManager
from bridge.supervisor.cores import usable_cores
from bridge.supervisor.output import Output
from bridge.supervisor.processes import Processes
from bridge.supervisor.programs import Plan
from bridge.supervisor.supervisor import SIGNALS, Supervisor


class _Number(click.ParamType[int]):
    name = "auto|N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "auto":
            return usable_cores()
        if not str(value).isdigit() or not 1 <= int(str(value)) <= 1000:
            self.fail(f"{value}: write auto, or a number from 1 to 1000", param, ctx)
        return int(str(value))


@click.command("up")
@click.option("--workers", type=_Number(), default="auto", show_default=True, help="auto: one for each core.")
@click.option("--sidecar", type=click.Path(path_type=Path), metavar="PATH", help="Rails app, or a Ruby file.")
@click.option("--puma", type=click.IntRange(1, 1000), help="Puma workers of the sidecar.")
@click.option(
    "--sockets",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory for the sidecar's sockets; sidecar.sock in it leads to the newest.",
)
@click.option("-A", "--app", default="bridge", show_default=True, help="As of `celery -A`.")
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- CELERY_OPTION]...")
def up(
    workers: int,
    sidecar: Path | None,
    puma: int | None,
    sockets: Path | None,
    app: str,
    celery_options: Sequence[str],
) -> None:
    """Start workers on all cores, with a sidecar if you name its app, and keep them running.

    TERM ends in order, a second one quickly; TSTP makes quiet; USR2 replaces all processes one by one.
    """
    directory = Path(tempfile.mkdtemp(prefix="bridge-up-"))  # short: sockets are in it
    output = None
    try:
        # Before the settings are read: no child may report to systemd in our name.
        manager = ServiceManager.take(os.environ, os.getpid())
        settings = load()
        on_terminal = sys.stdout.isatty()
        place = sockets or directory
        plan = Plan(settings, app, workers, celery_options, sidecar, puma, place, on_terminal)
        plan.check()
        as_json = settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal)
        output = Output(as_json=as_json)
        supervisor = Supervisor(plan, Processes(output, directory, SIGNALS), output, manager)
        status = supervisor.run()
    except ConfigurationError as error:
        click.echo(f"bridge: {error}", err=True)
        status = EX_CONFIG
    finally:
        if output is not None:
            output.close()
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(status)
