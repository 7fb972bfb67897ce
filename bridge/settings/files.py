"""Reads ``BRIDGE_CONFIG``: a YAML file with the settings' names, or a Rails app's ``config/sidekiq.yml``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from bridge.errors import ConfigurationError

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
    document = _document(path)
    if _is_rails(path, document):
        found = _rails(path, document, environment)
    else:
        found = {str(name): (f"{path}:{name}", value) for name, value in document.items()}
    return {name: entry for name, entry in found.items() if entry[1] is not None}


def _document(path: Path) -> dict[Any, Any]:
    text = _text(path)
    if "<%" in text:
        raise ConfigurationError(
            f"{path} contains ERB (<%), which only Ruby can run: "
            "write the values out, or set the BRIDGE_... variables instead"
        )
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {_where(error)}") from None
    if document is not None and not isinstance(document, dict):
        raise ConfigurationError(f"{path} is no list of settings: write one name: value on each line")
    return document or {}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"BRIDGE_CONFIG={path} cannot be read ({reason}): name an existing YAML file, or unset it"
        ) from None


def _where(error: yaml.YAMLError) -> str:
    """Line and problem, without the text around it, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    line = f"line {mark.line + 1}: " if mark else ""
    return f"{line}{getattr(error, 'problem', None) or 'it cannot be understood'}"


def _is_rails(path: Path, document: Mapping[Any, Any]) -> bool:
    """By its name, or by Ruby's symbols for keys."""
    return path.stem.startswith("sidekiq") or any(str(key).startswith(":") for key in document)


def _rails(path: Path, document: Mapping[Any, Any], environment: str) -> Found:
    options = _plain_keys(document)
    places = {name: f"{path}:{name}" for name in options}
    section = options.get(environment)
    if isinstance(section, dict):
        options.update(_plain_keys(section))
        places.update({name: f"{path}:{environment}.{name}" for name in _plain_keys(section)})
    found = {
        ours: (places[theirs], options[theirs])
        for theirs, ours in _SIDEKIQ_NAMES.items()
        if theirs in options
    }
    return _with_capsules(path, found, options.get("capsules"))


def _plain_keys(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    return {_plain(key): value for key, value in mapping.items()}


def _plain(symbol: object) -> str:
    return str(symbol).removeprefix(":")


def _with_capsules(path: Path, found: Found, capsules: object) -> Found:
    """One worker serves the queues of all capsules, with as many slots as they have together."""
    if not isinstance(capsules, dict):
        return found
    settings = [_plain_keys(capsule) for capsule in capsules.values() if isinstance(capsule, dict)]
    place = f"{path}:capsules"
    return {
        **found,
        **_joined("queues", place, found, settings, _as_list),
        **_joined("concurrency", place, found, settings, _as_number),
    }


def _joined(
    name: str,
    place: str,
    found: Found,
    capsules: Collection[Mapping[str, Any]],
    value_of: Callable[[Any], Any],
) -> Found:
    own = [found[name][1]] if name in found else []
    given = [value_of(value) for value in [*own, *(capsule[name] for capsule in capsules if name in capsule)]]
    if not given:
        return {}
    total = given[0]
    for value in given[1:]:
        total = total + value
    return {name: (place if not own else found[name][0], total)}


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]


def _as_number(value: object) -> int:
    return value if isinstance(value, int) else 0
