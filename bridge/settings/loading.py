"""Gathers the settings from the environment and the file, and turns each mistake into a sentence.

The order: the environment, else the file, else the default.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.errors import ConfigurationError
from bridge.settings import files
from bridge.settings.files import Found
from bridge.settings.model import Settings
from bridge.settings.redis_url import mask
from bridge.settings.sidekiq_yml import Environment

PREFIX = "BRIDGE_"

#: Variables of the same prefix that the sidecar, the demo and the tests read.
_OTHERS = frozenset(
    f"BRIDGE_SIDECAR_{name}"
    for name in ("BIND", "WORKERS", "THREADS", "REQUIRE", "MAX_BODY", "MAX_RSS_MB", "CERT", "KEY", "ALLOW")
)
_OTHER_PREFIXES = ("BRIDGE_DEMO_", "BRIDGE_TEST_", "BRIDGE_BENCH_", "BRIDGE_MATRIX", "BRIDGE_RELEASES")

#: By pydantic's name for the mistake; in braces what it says with it.
_PROBLEMS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "this is true or false",
    "bool_type": "this is true or false",
    "greater_than": "it must be more than {gt}",
    "greater_than_equal": "the least is {ge}",
    "less_than_equal": "the most is {le}",
    "literal_error": "it is {expected}",
    "string_pattern_mismatch": "it is spelled otherwise",
}

#: Stands wherever a secret would.
SECRET = "(hidden)"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings that an environment (this process's by default) and its BRIDGE_CONFIG describe.

    Raises:
        ConfigurationError: it names the variable or the file's key, its value, and what to write instead.
    """
    given = os.environ if environ is None else environ
    return make(gather(given), Environment.of(given))


def gather(environ: Mapping[str, str]) -> Found:
    """Each setting, with its source. Raises ConfigurationError for an unreadable file or an unknown name."""
    given = _from_environment(environ)
    found = {**_from_fallbacks(environ), **_from_file(given, environ), **given}
    _refuse_unknown(found)
    for name in ("sidecar_secret", "redis_url", "redis_sentinel_password"):
        found = _with_content_of_file(found, name)
    return found


def make(found: Found, environment: Environment) -> Settings:
    """The settings of what was gathered. Raises ConfigurationError with a sentence for each mistake."""
    try:
        made = Settings(**{name: value for name, (_, value) in found.items()})
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentence(detail, found) for detail in error.errors())) from None
    file = files.Described() if made.config is None else files.describe(made.config, environment)
    made.told_by({name: place for name, (place, _) in found.items()}, file)
    return made


def _from_environment(environ: Mapping[str, str]) -> Found:
    """An empty variable counts as unset: compose files pass them on like that."""
    return {
        name.removeprefix(PREFIX).lower(): (name, text)
        for name, text in environ.items()
        if name.startswith(PREFIX) and text.strip() and not _belongs_to_others(name)
    }


def _belongs_to_others(name: str) -> bool:
    return name in _OTHERS or name.startswith(_OTHER_PREFIXES)


def _from_fallbacks(environ: Mapping[str, str]) -> Found:
    """Sidekiq's own two: REDIS_URL, or the variable that REDIS_PROVIDER names."""
    provider = environ.get("REDIS_PROVIDER", "").strip()
    if "://" in provider:
        raise ConfigurationError(
            f"REDIS_PROVIDER={mask(provider)} holds a URL: "
            "write the name of the variable that holds it, or use REDIS_URL"
        )
    name = provider or "REDIS_URL"
    text = environ.get(name, "").strip()
    if provider and not text:
        raise ConfigurationError(f"REDIS_PROVIDER={provider} names a variable that is unset: set {provider}")
    return {"redis_url": (name, text)} if text else {}


def _from_file(given: Found, environ: Mapping[str, str]) -> Found:
    if "config" not in given:
        return {}
    found = files.read(Path(given["config"][1]), Environment.of(environ).name)
    _refuse_foreign_file(given["config"][1], found)
    _refuse_unknown(found)
    return {name: entry for name, entry in found.items() if entry[1] is not None}


def _refuse_foreign_file(path: str, found: Found) -> None:
    """A file about something else was named, such as ``config/database.yml``."""
    known = [*Settings.model_fields]
    if found and not any(name in known or _meant(name, known) for name in found):
        raise ConfigurationError(
            f"BRIDGE_CONFIG={path} has no setting of the bridge (it has {', '.join(list(found)[:3])}): "
            "name a config/sidekiq.yml, or a YAML file with the names of README.md"
        )


def _refuse_unknown(found: Found) -> None:
    known = list(Settings.model_fields)
    for name, (place, _) in found.items():
        if name not in known:
            raise ConfigurationError(f"{place} is not a setting{_suggestion(name, place, known)}")


def _suggestion(name: str, place: str, known: list[str]) -> str:
    meant = _meant(name, known)
    if meant is None:
        return ": remove it (README.md lists them all)"
    return f": did you mean {PREFIX + meant.upper() if place.startswith(PREFIX) else meant}?"


def _meant(name: str, known: list[str]) -> str | None:
    """The nearest setting. A file has the names of the variables without their prefix."""
    close = difflib.get_close_matches(name.lower().removeprefix(PREFIX.lower()), known, n=1)
    return close[0] if close else None


def _with_content_of_file(found: Found, name: str) -> Found:
    if f"{name}_file" not in found:
        return found
    place, path = found[f"{name}_file"]
    given = found.get(name)
    # REDIS_URL is a fallback of Sidekiq's, which many environments hold.
    if given is not None and given[0] not in ("REDIS_URL",):
        raise ConfigurationError(f"{given[0]} and {place} are both set: set one of them")
    return {**found, name: (place, _content_of(place, Path(str(path))))}


def _content_of(place: str, path: Path) -> str:
    try:
        content = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(
            f"{place}={path} cannot be read: name a text file that holds the value"
        ) from None
    if not content:
        raise ConfigurationError(f"{place}={path} is empty: write the value into it")
    return content


def _sentence(detail: ErrorDetails, found: Found) -> str:
    name = str(detail["loc"][0])
    place, value = found.get(name, (PREFIX + name.upper(), detail["input"]))
    problem = _problem(detail)
    examples = Settings.model_fields[name].examples or []
    advice = f"write for example {' or '.join(map(str, examples))}"
    return f"{place}={_shown(name, place, value)}: {problem}; {advice}"


def _problem(detail: ErrorDetails) -> str:
    """The mistake in a user's words, in place of the library's."""
    context = {name: _number(value) for name, value in detail.get("ctx", {}).items()}
    words = _PROBLEMS.get(detail["type"], "")
    return words.format(**context) if words else detail["msg"].removeprefix("Value error, ").rstrip(".")


def _number(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else value


def _shown(name: str, place: str, value: object) -> str:
    from_file = place.upper().endswith("_FILE") and not name.endswith("_file")
    return SECRET if name in ("sidecar_secret", "redis_sentinel_password") or from_file else mask(str(value))
