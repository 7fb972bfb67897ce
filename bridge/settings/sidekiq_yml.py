"""Finds mistakes of a ``config/sidekiq.yml``: mistyped keys, an environment without a section.

Sidekiq ignores such keys without a word. The worker ignores them too, and names them in its log and in
``bridge doctor``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Options that the bridge uses; ``files`` translates them.
USED = frozenset(
    [
        "concurrency", "timeout", "max_retries", "labels", "tag", "queues", "dead_max_jobs",
        "dead_timeout_in_seconds", "capsules",
    ]
)  # fmt: skip
_RUBYS = frozenset(
    """
    environment require pidfile logfile verbose daemon index strict config_file on_complex_arguments
    average_scheduled_poll_interval poll_interval_average max_iteration_runtime lifecycle_events
    error_handlers death_handlers reloader backtrace_cleaner logged_job_attributes job_logger
    skip_default_job_logging redis redis_idle_timeout fetch fetch_class fetch_setup identity
    profile_store_url profile_view_url scheduled_enq scheduler schedule dynamic dynamic_every enabled
    listened_queues_only rufus_scheduler_options cron cron_poll_interval cron_schedule_file limits
    process_limits blocking failures_max_count failures_default_mode
    """.split()  # noqa: SIM905 - a long list of short names reads better as a text
)
"""Options of Sidekiq 6.4 to 8.1 and of well-known gems: sidekiq-scheduler, -cron, -limit_fetch, -failures."""
_KNOWN = USED | _RUBYS
_OF_CAPSULES = ("concurrency", "queues")

PlaceOf = Callable[[str], str]
"""File, line and name of a key, such as ``config/sidekiq.yml:12:production.concurrency``."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The Rails environment, and the words for where it was said."""

    name: str
    said: str
    """``RAILS_ENV=production``, or ``RAILS_ENV is unset``."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Environment:
        """As Sidekiq's command line finds it (``cli.rb``)."""
        for variable in ("APP_ENV", "RAILS_ENV", "RACK_ENV"):
            if name := environ.get(variable):
                return cls(name, f"{variable}={name}")
        return cls("development", "RAILS_ENV is unset")


def sections(document: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    """The environments that a file has options for: its mappings that are not options themselves."""
    options = {plain(key): value for key, value in document.items()}
    return {name: value for name, value in options.items() if isinstance(value, dict) and name not in _KNOWN}


def complaints(document: Mapping[Any, Any], place_of: PlaceOf, environment: Environment) -> Iterator[str]:
    """One sentence for each mistake."""
    found = sections(document)
    yield from _unknown([plain(key) for key in document if plain(key) not in found], "", place_of)
    for section, content in found.items():
        yield from _unknown([plain(key) for key in content], f"{section}.", place_of)
    yield from _of_capsules(document, place_of)
    yield from _of_queues(document, place_of)
    if found and environment.name not in found:
        yield _missing_section(found, environment, place_of(next(iter(found))))


def queues(value: object) -> object:
    """The queues of such a file, for ``values.queues``. A number behind a colon belongs to the name there.

    Sidekiq writes a weight as ``[name, weight]``, and from 7 on also as ``name,weight``.
    """
    if isinstance(value, str) and "," not in value:
        value = [value]
    if not isinstance(value, list):
        return value
    return [[entry] if isinstance(entry, str) and "," not in entry else entry for entry in value]


def plain(symbol: object) -> str:
    """A key without the colon of Ruby's symbols."""
    return str(symbol).removeprefix(":")


def _unknown(names: list[str], prefix: str, place_of: PlaceOf) -> Iterator[str]:
    for name in names:
        if name not in _KNOWN:
            yield f"{place_of(prefix + name)} is not an option of Sidekiq: {_advice(name, USED)}"


def _of_capsules(document: Mapping[Any, Any], place_of: PlaceOf) -> Iterator[str]:
    capsules = next((value for key, value in document.items() if plain(key) == "capsules"), None)
    for name, capsule in capsules.items() if isinstance(capsules, dict) else ():
        for key in capsule if isinstance(capsule, dict) else ():
            if plain(key) not in _OF_CAPSULES:
                where = f"{place_of('capsules')}.{plain(name)}.{plain(key)}"
                yield f"{where} is not an option of a capsule: {_advice(plain(key), _OF_CAPSULES)}"


def _of_queues(document: Mapping[Any, Any], place_of: PlaceOf) -> Iterator[str]:
    given = next((value for key, value in document.items() if plain(key) == "queues"), None)
    for entry in given if isinstance(given, list) else ():
        name, colon, number = entry.rpartition(":") if isinstance(entry, str) else ("", "", "")
        if name and colon and number.isdigit():
            yield (
                f"{place_of('queues')} has the queue {entry!r}, by Sidekiq's rules: "
                f"a weight is written [{name}, {number}]"
            )


def _missing_section(found: Mapping[str, Any], environment: Environment, place: str) -> str:
    file = place.rsplit(":", 2)[0]
    close = difflib.get_close_matches(environment.name, sorted(found), n=1)
    advice = f"did you mean {close[0]}?" if close else f"it has {', '.join(sorted(found))}"
    return (
        f"{file} has no section {environment.name} ({environment.said}); "
        f"only its options outside of sections count: {advice}"
    )


def _advice(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name.casefold(), sorted(known), n=1)
    return f"did you mean {close[0]}?" if close else "the bridge ignores it, as Sidekiq does"
