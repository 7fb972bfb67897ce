"""The shell's suggestions for an argument: names, classes and jids from Redis.

A person has pressed a key and waits. So a look takes a second at most, reads only the front of each place,
and offers nothing if Redis does not answer or a setting is wrong: the command itself then says why.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator

import click
from click.shell_completion import CompletionItem

from bridge.cli.parts import Parts
from bridge.sidekiq import keys
from bridge.sidekiq.api.entries import SETS, Entry, Place

#: Longest time a person waits for a list.
SECONDS = 1.0
#: Jobs that are looked at in each place.
FRONT = 200

Offers = Iterable[tuple[str, str]]
"""A suggestion, and a word about it for the shells that show one (zsh, fish)."""
Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completion(offers: Callable[[Parts, click.Context], Offers]) -> Completion:
    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found: list[CompletionItem] = []
        # A daemon: a look that hangs, at a name server for example, does not keep the shell waiting.
        look = threading.Thread(target=_collect, args=(offers, ctx, incomplete, found), daemon=True)
        look.start()
        look.join(SECONDS)
        return sorted(found, key=lambda item: str(item.value))

    return complete


def _collect(
    offers: Callable[[Parts, click.Context], Offers],
    ctx: click.Context,
    incomplete: str,
    found: list[CompletionItem],
) -> None:
    # Whatever fails: an error would be printed into the line that the person is typing.
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Exception, SystemExit):
        seen = set()
        for value, about in offers(Parts(), ctx):
            if value.startswith(incomplete) and value not in seen:
                seen.add(value)
                found.append(CompletionItem(value, help=about))


def _queues(parts: Parts, _ctx: click.Context) -> Offers:
    return ((name, "") for name in _queue_names(parts))


def _places(parts: Parts, _ctx: click.Context) -> Offers:
    yield from ((name, "") for name in SETS)
    yield from ((keys.queue(name), "") for name in _queue_names(parts))


def _identities(parts: Parts, _ctx: click.Context) -> Offers:
    return ((row.identity, ", ".join(row.queues)) for row in parts.processes.all())


def _classes(parts: Parts, ctx: click.Context) -> Offers:
    return ((entry.job.native_class, "") for entry in _front(parts, ctx) if entry.job.native_class)


def _jids(parts: Parts, ctx: click.Context) -> Offers:
    if "place" not in ctx.params:  # of those that run as well
        identities = [row.identity for row in parts.processes.all()]
        yield from (
            (row.jid, f"{row.job_class} runs") for row in parts.processes.running(identities) if row.jid
        )
    for entry in _front(parts, ctx):
        if entry.job.jid:
            yield entry.job.jid, f"{entry.job.native_class} in {entry.place}"


def _queue_names(parts: Parts) -> list[str]:
    return [place.queue for place in parts.entries.places() if place.queue]


def _front(parts: Parts, ctx: click.Context) -> Iterator[Entry]:
    """The first jobs of the place that was typed already, or else of each place."""
    typed = ctx.params.get("place")
    for place in [typed] if isinstance(typed, Place) else parts.entries.places():
        yield from itertools.islice(parts.entries.in_order(place), FRONT)


QUEUES, PLACES, IDENTITIES = map(_completion, (_queues, _places, _identities))
CLASSES, JIDS = map(_completion, (_classes, _jids))
