"""``bridge jobs retry``, ``kill`` and ``delete``: some jobs or a million, in pages, counted before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.progress import Progress

from bridge.cli import completion, naming, output
from bridge.cli.group import FAILED
from bridge.cli.parts import Parts, pass_parts
from bridge.cli.selecting import PLACE, filters, selection
from bridge.sidekiq import keys
from bridge.sidekiq.api.entries import PAGE, Entry, Place
from bridge.sidekiq.api.filters import Filters

Act = Callable[[Sequence[Entry]], int]
CHUNK = 100


@dataclass(frozen=True)
class Work:
    """One verb on the jobs that are meant."""

    parts: Parts
    place: Place
    wanted: Filters
    now: float

    def count(self) -> int:
        """How many are meant at the moment."""
        if self.wanted.is_everything:
            return self.parts.entries.size(self.place)
        found = 0

        def see(entries: Sequence[Entry]) -> int:
            nonlocal found
            found += sum(self.wanted.takes(entry, self.now) for entry in entries)
            return 0

        self._sweep("counting", see)
        return found

    def carry_out(self, verb: str, act: Act) -> int:
        """Do it to each, and return how many were still there."""
        return self._sweep(verb, lambda entries: self._act_on(entries, act))

    def _act_on(self, entries: Sequence[Entry], act: Act) -> int:
        meant = [entry for entry in entries if self.wanted.takes(entry, self.now)]
        return sum(act(meant[i : i + CHUNK]) for i in range(0, len(meant), CHUNK))

    def _sweep(self, verb: str, act: Act) -> int:
        total = self.parts.entries.size(self.place)
        with Progress(console=output.console(stderr=True), transient=True, disable=total <= PAGE) as progress:
            bar = progress.add_task(verb, total=total)

            def step(entries: Sequence[Entry]) -> int:
                taken = act(entries)
                progress.advance(bar, PAGE)
                return taken

            return self.parts.entries.sweep(self.place, step, self.wanted.needles)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        pass_parts,
        click.pass_context,
        output.json_option,
        output.yes_option,
        click.option("--all", "everything", is_flag=True, help="All jobs of PLACE."),
        filters,
        click.argument("jids", nargs=-1, metavar="[JID]...", shell_complete=completion.JIDS),
        click.argument("place", type=PLACE),
    ):
        command = option(command)
    return command


@click.command("retry")
@_options
def retry(parts: Parts, ctx: click.Context, **said: Any) -> None:
    """Push jobs of retry, schedule or dead to their queues now, as "Retry now" does."""
    if said["place"].queue:
        raise click.UsageError(f"{said['place']} is a queue: its jobs run as they are")
    actions, now = parts.actions, parts.processes.now_ms() / 1000
    _run(parts, ctx, "retry", lambda entries: actions.retry(entries, now), **said)


@click.command("kill")
@_options
def kill(parts: Parts, ctx: click.Context, **said: Any) -> None:
    """Move jobs to the dead set, as "Kill" does. A worker has a sidecar run the app's death handlers."""
    if said["place"].key == keys.DEAD:
        raise click.UsageError("they are dead already: delete or retry them")
    if not parts.settings.has_sidecar:
        click.echo("death handlers do not run: name the workers' sidecar in BRIDGE_SIDECAR_URL", err=True)
    actions, now = parts.actions, parts.processes.now_ms() / 1000
    _run(parts, ctx, "kill", lambda entries: actions.kill(entries, now), **said)


@click.command("delete")
@_options
def delete(parts: Parts, ctx: click.Context, **said: Any) -> None:
    """Remove jobs for good, as "Delete" does."""
    _run(parts, ctx, "delete", parts.actions.delete, **said)


def _run(
    parts: Parts,
    ctx: click.Context,
    verb: str,
    act: Act,
    *,
    place: Place,
    jids: tuple[str, ...],
    everything: bool,
    yes: bool,
    as_json: bool,
    **said: Any,
) -> None:
    wanted, now = selection(jids, **said), parts.processes.now_ms() / 1000
    _check(wanted, everything, place)
    work = Work(parts, place, wanted, now)
    matched = work.count()
    if matched:
        # A retry of jobs that were named one by one is what the Web UI's button does: it does not ask either.
        output.confirm(
            f"{verb.capitalize()} {output.count(matched, 'job')} of {place}?",
            yes or (verb == "retry" and bool(jids)),
        )
    is_clear = wanted.is_everything and verb == "delete"
    done = parts.actions.delete_all(place) if is_clear else work.carry_out(verb, act)
    if as_json:
        output.print_json({"action": verb, "place": place.key, "matched": matched, "done": done})
    else:
        click.echo(f"{verb}: {done:,} of {output.count(matched, 'job')} of {place}")
    if not matched:
        naming.hint_at_queues(parts, [place.queue] if place.queue else ())
    if done < len(jids):
        missing = f"{len(jids) - done:,} of {output.count(len(jids), 'job')}"
        click.echo(f"not in {place} (any more): {missing}", err=True)
        ctx.exit(FAILED)


def _check(wanted: Filters, everything: bool, place: Place) -> None:
    if wanted.is_everything and not everything:
        raise click.UsageError(
            f"say which jobs: a JID, --class, --error, --older or --newer; or --all of {place}"
        )
    if everything and not wanted.is_everything:
        raise click.UsageError(f"--all means every job of {place}: leave it out, or leave the others out")
