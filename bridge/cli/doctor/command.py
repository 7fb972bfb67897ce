"""``bridge doctor``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
from rich.console import Console
from rich.text import Text

from bridge import errors
from bridge.cli import output
from bridge.cli.doctor import (
    access_checks,
    batch_checks,
    gem_checks,
    limit_checks,
    machine_checks,
    payload_checks,
    redis_checks,
    sidecar_checks,
    sidekiq_checks,
    task_checks,
)
from bridge.cli.doctor.finding import Check, Finding, Severity, error
from bridge.cli.doctor.site import Site
from bridge.cli.group import FAILED
from bridge.cli.parts import Parts, pass_parts

#: Those that need Redis, and those that do not.
OF_REDIS: tuple[Check, ...] = (
    *redis_checks.CHECKS,
    *access_checks.CHECKS,
    *payload_checks.CHECKS,
    *sidekiq_checks.CHECKS,
    *task_checks.CHECKS,
    *limit_checks.CHECKS,
    *batch_checks.CHECKS,
    sidecar_checks.slots,
    sidecar_checks.cron,
    machine_checks.probes,
    machine_checks.files,
)
OF_REST: tuple[Check, ...] = tuple(
    check
    for check in (*sidecar_checks.CHECKS, *gem_checks.CHECKS, *machine_checks.CHECKS)
    if check not in OF_REDIS
)

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.HINT: "cyan"}


@click.command("doctor")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@output.json_option
@pass_parts
@click.pass_context
def doctor(ctx: click.Context, parts: Parts, strict: bool, as_json: bool) -> None:
    """Look for what is wrong between Redis, Sidekiq, sidecar, worker and machine, and say what to do.

    Changes nothing. Exit code 1 when there is an error.
    """
    findings = sorted(examine(parts), key=lambda one: [*Severity].index(one.severity))
    if as_json:
        output.print_json([{**output.plain(one), "severity": one.severity.value} for one in findings])
    else:
        _print(output.console(), findings)
    bad = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    if any(one.severity in bad for one in findings):
        ctx.exit(FAILED)


def examine(parts: Parts) -> Iterator[Finding]:
    """Everything that is found."""
    try:
        _ = parts.settings
    except errors.ConfigurationError as mistake:
        yield error("settings", str(mistake), "correct it, then look again: nothing else was looked at")
        return
    site = Site(parts)
    yield from _redis(site)
    for check in OF_REST:
        yield from check(site)


def _redis(site: Site) -> Iterator[Finding]:
    try:
        _ = site.client
    except errors.StoreUnavailable as outage:
        yield redis_checks.away(site.settings, outage)
        return
    for check in OF_REDIS:
        try:
            yield from check(site)
        except errors.StoreError as refusal:
            cure = "correct the findings above, then look again"
            yield error(
                "redis-refuses", f"could not look ({check.__name__.replace('_', ' ')}): {refusal}", cure
            )


def _print(console: Console, findings: Sequence[Finding]) -> None:
    for one in findings:
        console.print(
            Text.assemble((f"{one.severity.value:8}", _STYLES[one.severity]), f"{one.code}: {one.seen}")
        )
        console.print(Text(f"        -> {one.cure}"))
    counts = {severity: sum(one.severity is severity for one in findings) for severity in Severity}
    said = ", ".join(output.count(number, one.value) for one, number in counts.items() if number)
    click.echo(said or "nothing is wrong")
