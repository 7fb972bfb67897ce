"""Guesses the Python signature of a task from the arguments of real jobs, and from Ruby's parameters."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Arguments = tuple[Sequence[Any], dict[str, Any]]
"""Positional and keyword arguments of one job."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the task."""

    name: str
    types: tuple[str, ...]
    """What Python calls the types of the values that were seen; empty where none was."""
    optional: bool = False
    keyword: bool = False
    prefix: str = ""
    """``*`` or ``**`` for what takes all other arguments."""

    @property
    def annotation(self) -> str:
        """The type as a signature has it."""
        found = self.types or ("Any",)
        none = ("None",) if self.optional and not self.prefix and "Any" not in found else ()
        return " | ".join(dict.fromkeys((*(each for each in found if each != "None"), *none, *_none(found))))

    def __str__(self) -> str:
        default = " = None" if self.optional and not self.prefix else ""
        return f"{self.prefix}{self.name}: {self.annotation}{default}"


def _none(found: Sequence[str]) -> tuple[str, ...]:
    return ("None",) if "None" in found else ()


def signature(samples: Sequence[Arguments], ruby: Sequence[Sequence[str]] = ()) -> list[Parameter]:
    """The parameters that take all these arguments. ``ruby``: kind and name, as ``Method#parameters``."""
    return [*_positional(samples, ruby), *_keywords(samples, ruby)]


def _positional(samples: Sequence[Arguments], ruby: Sequence[Sequence[str]]) -> list[Parameter]:
    named = [(kind, name) for kind, name in ruby if kind in ("req", "opt")]
    rest = next((name for kind, name in ruby if kind == "rest"), None)
    counts = [len(args) for args, _ in samples]
    longest = len(named) if rest is not None else max([len(named), *counts])
    fewest = min(counts, default=longest)
    found: list[Parameter] = []
    for place in range(longest):
        kind, name = named[place] if place < len(named) else ("", "")
        values = (args[place] for args, _ in samples if len(args) > place)
        optional = kind == "opt" or (not kind and place >= fewest) or any(p.optional for p in found)
        found.append(Parameter(_identifier(name, f"arg{place + 1}"), _types(values), optional))
    if rest is not None:
        values = (value for args, _ in samples for value in args[longest:])
        found.append(Parameter(_identifier(rest, "rest"), _types(values), prefix="*"))
    return _distinct(found)


def _keywords(samples: Sequence[Arguments], ruby: Sequence[Sequence[str]]) -> list[Parameter]:
    needed = {name for kind, name in ruby if kind == "keyreq"}
    named = [name for kind, name in ruby if kind in ("keyreq", "key")]
    seen = [name for _, kwargs in samples for name in kwargs]
    takes_all = any(kind == "keyrest" for kind, _ in ruby)
    names = list(dict.fromkeys([*named, *([] if takes_all else seen)]))
    found = []
    for name in names:
        if not _is_identifier(name):
            takes_all = True
            continue
        values = [kwargs[name] for _, kwargs in samples if name in kwargs]
        optional = name not in needed and len(values) < max(1, len(samples))
        found.append(Parameter(name, _types(values), optional, keyword=True))
    if takes_all:
        found.append(Parameter("more", (), prefix="**"))
    return found


def _types(values: Iterable[Any]) -> tuple[str, ...]:
    found = list(dict.fromkeys(_type(value) for value in values))
    # JSON writes 1.0 for some floats and 1 for others.
    return tuple(name for name in found if not (name == "int" and "float" in found))


def _type(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, list):
        inner = _types(value)
        return f"list[{inner[0] if len(inner) == 1 else 'Any'}]"
    if isinstance(value, dict):
        return "dict[str, Any]"
    return type(value).__name__


def _identifier(name: str, otherwise: str) -> str:
    return name if _is_identifier(name) else f"{name}_" if keyword.iskeyword(name) else otherwise


def _is_identifier(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and name != "self"


def _distinct(found: list[Parameter]) -> list[Parameter]:
    """Ruby allows two parameters named ``_``, and Python does not."""
    names: set[str] = set()
    made = []
    for place, each in enumerate(found, 1):
        name = f"arg{place}" if each.name in names else each.name
        names.add(name)
        made.append(Parameter(name, each.types, each.optional, each.keyword, each.prefix))
    return made
