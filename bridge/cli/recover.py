"""``bridge recover``: gives back what dead workers held, also where no worker is to run again."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click

from bridge.cli import output
from bridge.cli.parts import Parts, pass_parts
from bridge.sidekiq.api.foreign_lists import ForeignList, ForeignLists
from bridge.sidekiq.api.processes import LeaseRow
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.lease.other_leases import MARGIN_SECONDS, length_seconds
from bridge.sidekiq.lease.reaper import Reaper
from bridge.sidekiq.store.leases import LeaseTable

LOOK_SECONDS = 0.5


@click.command("recover")
@click.option(
    "--now", "at_once", is_flag=True, help="Do not wait: every worker of the bridge is stopped for certain."
)
@click.option("--dry-run", is_flag=True, help="Only show who holds what.")
@output.yes_option
@output.json_option
@pass_parts
def recover(parts: Parts, at_once: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Give the jobs of dead workers back to their queues. After a crash this is the way back to Sidekiq.

    Jobs that a reliable fetcher of a dead Ruby process holds (super_fetch, gitlab-sidekiq-fetcher) go back as
    well. The list of a process that lives is left alone.

    A worker is dead when its lease has run out and stays so for one full term (BRIDGE_LEASE_SECONDS): after
    an outage of Redis every lease has run out, and the living renew theirs within that time.
    """
    lists = ForeignLists(parts.client)
    if dry_run:
        _show(parts, parts.processes.leases(), lists.all(), as_json)
        return
    if at_once:
        output.confirm("--now takes the jobs of workers that still live, too. Are they all stopped?", yes)
    found, given_back = _recover(parts, at_once)
    foreign = lists.all()
    from_lists = {one.key: lists.give_back(one) for one in foreign if not one.alive}
    if as_json:
        said = {
            "workers": found,
            "given_back": given_back,
            "left": _held(parts),
            "other_fetchers": from_lists,
        }
        output.print_json(said)
        return
    click.echo(f"gave {given_back:,} jobs of {len(found)} dead workers back to their queues")
    if left := _held(parts):
        click.echo(f"{left:,} jobs are in the hands of workers that live")
    for key, count in from_lists.items():
        click.echo(f"gave {count:,} jobs of {key} back: its process is gone")
    for one in foreign:
        if one.alive:
            click.echo(f"{one.held:,} jobs are in {one.key}: {_owner(one)} lives, stop it first")


def _recover(parts: Parts, at_once: bool) -> tuple[list[str], int]:
    if at_once:
        reaper = _reaper(parts, Lease(parts.store, _identity))
        dead = [row.identity for row in parts.processes.leases()]
        return dead, sum(reaper.reap(identity) for identity in dead)
    with _own_lease(parts) as lease:
        dead = _dead(parts, lease)
        reaper = _reaper(parts, lease)
        return dead, sum(reaper.reap(identity) for identity in dead)


def _reaper(parts: Parts, lease: Lease) -> Reaper:
    return Reaper(parts.store, lease, lambda: parts.dialect.dead_limits)


def _dead(parts: Parts, lease: Lease) -> list[str]:
    """Those whose lease is over, and that no worker renewed for one full term."""
    first = {row.identity: row for row in parts.processes.leases() if row.held or row.till_ms is None}
    waiting = {name: row for name, row in first.items() if row.till_ms is None or row.till_ms > 0}
    unchanged: list[tuple[str, float]] = []
    if waiting:
        click.echo(
            f"waiting {lease.length_seconds:g} s for a sign of life of {len(waiting)} workers", err=True
        )
        unchanged = _wait_one_term(parts, lease, waiting)
    # Marks what it names: from now on those workers are fenced, so all of them are to be reaped.
    window = lease.redis_clock.window if waiting else None
    expired = parts.store.expired_leases(lease.identity, window=window, unchanged=unchanged)
    return sorted(
        {*expired, *(name for name, row in _rows(parts).items() if row.till_ms is None and name in first)}
    )


def _wait_one_term(parts: Parts, lease: Lease, waiting: Mapping[str, LeaseRow]) -> list[tuple[str, float]]:
    """Also for a lease that is longer than ours. Returns leases that did not change for their whole length.

    Such a lease is over whatever Redis' clock says, which may have gone back.
    """
    table, began = LeaseTable(parts.store.client), lease.clock()
    ends = {name: end for name, end in table.ends().items() if name in waiting and end > 0}

    def unchanged() -> list[tuple[str, float]]:
        waited, now = lease.clock() - began, table.ends()
        return [
            (name, end)
            for name, end in ends.items()
            if now.get(name) == end and waited > length_seconds(end) + MARGIN_SECONDS
        ]

    while not lease.may_reap or _undecided(parts, waiting, {name for name, _ in unchanged()}):
        time.sleep(min(LOOK_SECONDS, lease.length_seconds / 6))
        if lease.age_seconds > lease.length_seconds / 3:
            lease.renew()
    return unchanged()


def _undecided(parts: Parts, waiting: Mapping[str, LeaseRow], over: set[str]) -> bool:
    now_ms, rows = parts.processes.now_ms(), _rows(parts)
    return any(
        row == rows.get(name) and not row.is_over(now_ms) and name not in over
        for name, row in waiting.items()
    )


def _rows(parts: Parts) -> dict[str, LeaseRow]:
    return {row.identity: row for row in parts.processes.leases()}


@contextmanager
def _own_lease(parts: Parts) -> Iterator[Lease]:
    """A reaper has a lease itself, so that it would notice an outage of Redis."""
    lease = Lease(parts.store, _identity, parts.settings.lease_seconds)
    lease.register()
    try:
        yield lease
    finally:
        lease.leave()


def _identity() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(6).hex()}"


def _held(parts: Parts) -> int:
    return sum(row.held for row in parts.processes.leases())


def _owner(one: ForeignList) -> str:
    return one.owner or "a Ruby process"


def _show(parts: Parts, rows: list[LeaseRow], foreign: list[ForeignList], as_json: bool) -> None:
    now_ms = parts.processes.now_ms()
    if as_json:
        of_workers = [{**output.plain(row), "over": row.is_over(now_ms)} for row in rows]
        output.print_json([*of_workers, *({**output.plain(one), "over": not one.alive} for one in foreign)])
        return
    shown = [(row.identity, row.held, "over" if row.is_over(now_ms) else "held") for row in rows]
    shown += [
        (one.key, one.held, "its process lives" if one.alive else "its process is gone") for one in foreign
    ]
    output.console().print(output.table(("worker", ">jobs in hand", "lease"), shown))
