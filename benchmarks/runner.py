"""Runs the scenarios: several rounds, each with every peer in turn, in a new random order."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from benchmarks.figures import Sample
from benchmarks.processes import BenchmarkFailed, end_orphans
from benchmarks.results import Found, Results
from benchmarks.scenarios import Row, Scenario
from benchmarks.site import new_site

Say = Callable[[str], None]


@dataclass
class Runner:
    """``say`` gets a line for each measurement. A row that two scenarios share is measured once a round."""

    results: Results
    settings: dict[str, object]
    say: Say
    keep: Callable[[], object] = lambda: None
    """Called after each family of scenarios: what was found so far outlives a run that is killed."""
    _known: dict[object, Sample | None] = field(default_factory=dict)

    def run(self, scenarios: Sequence[Scenario], rounds: int, chance: random.Random) -> None:
        """Run all rounds; ``results`` holds the figures so far at any moment."""
        for scenario in scenarios:
            self._prepare(scenario)
        families = list(dict.fromkeys(scenario.family for scenario in scenarios))
        for number in range(rounds):
            for family in chance.sample(families, len(families)):
                self._known.clear()
                members = [scenario for scenario in scenarios if scenario.family == family]
                self._round(
                    [_part(scenario, number) for scenario in members], f"{number + 1}/{rounds}", chance
                )
                self.keep()

    def _prepare(self, scenario: Scenario) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        found = Found(scenario.metric, scenario.base, scenario.what, now, self.settings)
        found.rows = {row.label: [] for row in scenario.rows}
        self.results.scenarios[scenario.name] = found

    def _round(self, family: Sequence[Scenario], number: str, chance: random.Random) -> None:
        rows = [(scenario, row) for scenario in family for row in scenario.rows]
        for scenario, row in chance.sample(rows, len(rows)):
            started = time.monotonic()
            sample = self._measured(row)
            self.results.scenarios[scenario.name].rows[row.label].append(sample)
            self._tell(scenario, row, sample, number, time.monotonic() - started)

    def _measured(self, row: Row) -> Sample | None:
        key = (row.peer.name, row.setup, row.method)
        if key not in self._known:
            self._known[key] = self._measure(row)
        return self._known[key]

    def _measure(self, row: Row) -> Sample | None:
        try:
            with new_site() as site:
                try:
                    return row.method(row.peer, row.setup, site)
                finally:
                    row.peer.clean(site)
        except BenchmarkFailed as error:
            self.results.errors.append(f"{row.label}: {error}")
        except Exception as error:
            # A fault of one measurement must not cost the others, which took half an hour.
            self.results.errors.append(f"{row.label}: {error!r}")
        finally:
            end_orphans()
        return None

    def _tell(self, scenario: Scenario, row: Row, sample: Sample | None, which: str, seconds: float) -> None:
        why = next((text for text in self.results.errors[::-1] if text.startswith(f"{row.label}: ")), "")
        value = f"{sample.get(scenario.metric, math.nan):12,.2f}" if sample else f"FAILED {why}"
        self.say(f"{which}  {scenario.name:32} {row.label:38} {value}  ({seconds:.0f} s)")


def _part(scenario: Scenario, number: int) -> Scenario:
    """The rows of a scenario that are measured in this round, from 0."""
    if scenario.rounds is not None and number >= scenario.rounds:
        return replace(scenario, rows=())
    return replace(scenario, rows=tuple(row for row in scenario.rows if number == 0 or not row.once))
