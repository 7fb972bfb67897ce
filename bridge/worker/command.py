"""``python -m bridge.worker.command -A APP worker ...``: Celery's worker without Celery's other commands.

The ``celery`` command loads all of its commands and each plug-in, an interactive shell and Flower among them.
That takes 11 MB and 0.1 s of CPU in each worker, so ``bridge up`` starts its workers by this module.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click
from celery import maybe_patch_concurrency

#: Variables that only Celery's own group reads.
OPTIONS_OF_CELERY = frozenset(
    {
        "BROKER_URL", "CELERY_QUIET", "CELERY_WORKDIR", "CONFIG_MODULE",
        "LOADER", "NO_COLOR", "RESULT_BACKEND", "SKIP_CHECKS",
    }
)  # fmt: skip


@click.group()
@click.option("-A", "--app", envvar="CELERY_APP", required=True)
@click.pass_context
def celery(context: click.Context, app: str) -> None:
    """Celery's own group does the same for the one option that ``bridge up`` gives it."""
    # Not before the pool's patches are in place.
    from celery.app.utils import find_app
    from celery.bin.base import CLIContext

    try:
        found = find_app(app)
    except Exception:
        _full_command()  # it meets the same error, and has a sentence for each kind
    context.obj = CLIContext(app=found, no_color=False, workdir=None)
    for kind in ("preload", "worker"):
        celery.commands["worker"].params.extend(found.user_options.get(kind, ()))


def main() -> None:
    """Start one worker."""
    maybe_patch_concurrency()
    if OPTIONS_OF_CELERY & os.environ.keys():
        _full_command()
    from celery.bin.worker import worker

    celery.add_command(worker)
    celery(prog_name="celery", auto_envvar_prefix="CELERY")


def _full_command() -> NoReturn:
    from celery.bin.celery import main as full

    sys.exit(full())


if __name__ == "__main__":
    main()
