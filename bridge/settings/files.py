"""Reads ``BRIDGE_CONFIG``: a YAML file with the settings' names, or a Rails app's ``config/sidekiq.yml``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridge.errors import ConfigurationError
from bridge.settings import sidekiq_yml, values
from bridge.settings.sidekiq_yml import Environment
from bridge.settings.sidekiq_yml import plain as _plain
from bridge.sidekiq.fetch.queues import Capsule

Found = dict[str, tuple[str, Any]]
"""Setting to (place in the file, value)."""

#: Sidekiq's options that mean the same here, and our names for them. All others (of Sidekiq, of cron gems)
#: are Ruby's.
_SIDEKIQ_NAMES = {
    "concurrency": "concurrency",
    "timeout": "shutdown_timeout_seconds",
    "max_retries": "max_retries",
    "labels": "labels",
    "tag": "tag",
    "queues": "queues",
    "dead_max_jobs": "dead_max_jobs",
    "dead_timeout_in_seconds": "dead_timeout_seconds",
}


def read(path: Path, environment: str) -> Found:
    """The settings in a file; ``environment`` (RAILS_ENV) picks the section of a Rails file.

    Raises ConfigurationError.
    """
    text = _text(path)
    document, places = _document(path, text), Places.of(path, text)
    if _is_rails(path, document):
        found = _rails(places, document, environment)
    else:
        _check_names(path, document)
        found = {str(name): (places.of_key(str(name)), value) for name, value in document.items()}
    return found


@dataclass(frozen=True, slots=True)
class Described:
    """Which part of a file is in force, and what its author may not know."""

    section: str = ""
    """The section of a Rails file that counts; empty where there is none."""
    complaints: tuple[str, ...] = ()
    capsules: tuple[Capsule, ...] = ()
    """Queues of a Rails file that have a limit of their own."""


def describe(path: Path, environment: Environment) -> Described:
    """Look at a file that ``read`` has understood."""
    text = _text(path)
    document = _document(path, text)
    if not _is_rails(path, document):
        return Described()
    found = sidekiq_yml.complaints(document, Places.of(path, text).of_key, environment)
    section = environment.name if environment.name in sidekiq_yml.sections(document) else ""
    return Described(section, tuple(found), tuple(_capsules(path, document, environment.name)))


def _check_names(path: Path, document: Mapping[Any, Any]) -> None:
    """Whatever file was named by mistake, its text is not shown."""
    for name in document:
        if not re.fullmatch(r"[A-Za-z]\w{0,60}", str(name)):
            raise ConfigurationError(
                f"{path} holds no settings: write one name: value on each line, or name a sidekiq.yml"
            )


def _document(path: Path, text: str) -> dict[Any, Any]:
    before, erb, _ = text.partition("<%")
    if erb:
        raise ConfigurationError(
            f"{path} contains ERB (<% in line {before.count(chr(10)) + 1}), which only Ruby can run: "
            "write the values out, or set the BRIDGE_... variables instead"
        )
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {_where(error)}") from None
    if document is not None and not isinstance(document, dict):
        raise ConfigurationError(f"{path} must be a list of settings: write one name: value on each line")
    return document or {}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"BRIDGE_CONFIG={path} cannot be read ({reason}): name an existing YAML file, or unset it"
        ) from None


class Places:
    """The place of each key: ``config/sidekiq.yml:12:production.concurrency``."""

    def __init__(self, path: Path, lines: Mapping[str, int]) -> None:
        self._path, self._lines = path, lines

    @classmethod
    def of(cls, path: Path, text: str) -> Places:
        """The places of the keys in a text that ``yaml.safe_load`` has understood."""
        return cls(path, dict(_lines(yaml.compose(text, Loader=yaml.SafeLoader), "", 2)))

    def of_key(self, name: str) -> str:
        """File, line and name; a key that another mapping brought in (``<<``) has its section's line."""
        line = self._lines.get(name) or self._lines.get(name.partition(".")[0])
        return f"{self._path}:{line}:{name}" if line else f"{self._path}:{name}"


def _lines(node: yaml.Node | None, prefix: str, depth: int) -> Iterator[tuple[str, int]]:
    if not isinstance(node, yaml.MappingNode) or depth == 0:
        return
    for key, value in node.value:
        name = prefix + _plain(key.value)
        yield name, key.start_mark.line + 1
        yield from _lines(value, f"{name}.", depth - 1)


def _where(error: yaml.YAMLError) -> str:
    """Line and problem, without the text around it, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    line = f"line {mark.line + 1}: " if mark else ""
    return f"{line}{getattr(error, 'problem', None) or 'it cannot be understood'}"


def _is_rails(path: Path, document: Mapping[Any, Any]) -> bool:
    """By its name, or by Ruby's symbols for keys."""
    return path.stem.startswith("sidekiq") or any(str(key).startswith(":") for key in document)


def _rails(places: Places, document: Mapping[Any, Any], environment: str) -> Found:
    options = _plain_keys(document)
    names = {name: name for name in options}
    section = options.get(environment)
    if isinstance(section, dict):
        options.update(_plain_keys(section))
        names.update({name: f"{environment}.{name}" for name in _plain_keys(section)})
    found = {
        ours: (places.of_key(names[theirs]), options[theirs])
        for theirs, ours in _SIDEKIQ_NAMES.items()
        if theirs in options
    }
    found = _with_capsules(places.of_key(names.get("capsules", "capsules")), found, options.get("capsules"))
    if "queues" in found:
        place, queues = found["queues"]
        found["queues"] = (place, sidekiq_yml.queues(queues))
    return found


def _plain_keys(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    return {_plain(key): value for key, value in mapping.items()}


def _with_capsules(place: str, found: Found, capsules: object) -> Found:
    """One worker serves the queues of all capsules, with as many slots as they have together."""
    if capsules is None:
        return found
    if not isinstance(capsules, dict):
        example = "name: {concurrency: 1, queues: [a]}"
        raise ConfigurationError(f"{place} must be a list of capsules: write for example {example}")
    settings = {
        f"{place}.{_plain(name)}": _plain_keys(capsule)
        for name, capsule in capsules.items()
        if isinstance(capsule, dict)
    }
    return {**found, **_joined_queues(place, found, settings), **_joined_slots(place, found, settings)}


def _capsules(path: Path, document: Mapping[Any, Any], environment: str) -> Iterator[Capsule]:
    """The capsules with their limits; one without ``concurrency`` has that of the file, as in Sidekiq."""
    options = _plain_keys(document)
    section = options.get(environment)
    options.update(_plain_keys(section) if isinstance(section, dict) else {})
    for name, capsule in (options.get("capsules") or {}).items():
        own = _plain_keys(capsule) if isinstance(capsule, dict) else {}
        concurrency = own.get("concurrency", options.get("concurrency"))
        if own.get("queues") and concurrency:
            try:
                queues = values.queues(sidekiq_yml.queues(_as_list(own["queues"])))
            except ValueError as error:
                raise ConfigurationError(f"{path}: capsule {_plain(name)}: {error}") from None
            yield Capsule(_plain(name), frozenset(queues.names), concurrency)


def _joined_queues(place: str, found: Found, capsules: Mapping[str, Mapping[str, Any]]) -> Found:
    given = [_as_list(capsule["queues"]) for capsule in capsules.values() if capsule.get("queues")]
    if not given:
        return {}
    own_place, own = found.get("queues", (place, []))
    return {"queues": (own_place, [*_as_list(own), *(queue for queues in given for queue in queues)])}


def _joined_slots(place: str, found: Found, capsules: Mapping[str, Mapping[str, Any]]) -> Found:
    given = [
        _slots(f"{where}.concurrency", capsule["concurrency"])
        for where, capsule in capsules.items()
        if capsule.get("concurrency") is not None
    ]
    if not given:
        return {}
    own_place, own = found.get("concurrency", (place, 0))
    return {"concurrency": (own_place, _slots(own_place, own) + sum(given))}


def _as_list(value: object) -> Collection[object]:
    if isinstance(value, dict):
        return list(value.items())
    return list(value) if isinstance(value, list) else [value]


def _slots(place: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ConfigurationError(f"{place}={value}: must be a whole number; write for example 5")
