"""The results of a run, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Sample

FORMAT = 2


@dataclass
class Found:
    """One scenario: label of a row -> what each round found (None where a measurement failed)."""

    metric: str
    base: str
    what: str
    measured_at: str
    settings: Mapping[str, Any]
    rows: dict[str, list[Sample | None]] = field(default_factory=dict)


@dataclass
class Results:
    """``machine`` says where and with which versions; ``errors`` has a sentence for each failure."""

    machine: Mapping[str, Any]
    scenarios: dict[str, Found] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")


def merged(before: Results | None, found: Results) -> Results:
    """The scenarios of both runs; those of an earlier one that were measured again are replaced."""
    if before is None:
        return found
    # A run that was ended early has not measured all that it names.
    new = {name: each for name, each in found.scenarios.items() if any(map(any, each.rows.values()))}
    kept = {name: each for name, each in before.scenarios.items() if name not in new}
    notes = list(dict.fromkeys([*before.notes, *found.notes]))
    return Results(found.machine, kept | new, notes, [*before.errors, *found.errors])


def read(path: Path) -> Results:
    """What ``Results.write`` wrote. Raises ValueError where the file is something else."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.pop("format") != FORMAT:
            raise ValueError("another format")
        scenarios = {name: Found(**found) for name, found in raw.pop("scenarios").items()}
        return Results(scenarios=scenarios, **raw)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} holds no results of these benchmarks: {error}") from error
