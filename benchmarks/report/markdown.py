"""The report in the docs, between markers."""

from __future__ import annotations

from benchmarks.goals import verdicts
from benchmarks.machine import sentence
from benchmarks.report.table import Table, goal_table, scenario_table
from benchmarks.results import Found, Results

BEGIN = "<!-- figures: written by scripts/bench --report -->"
END = "<!-- /figures -->"


def with_figures(document: str, results: Results) -> str:
    """The text with new figures between its markers. Raises ValueError where there are none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{figures(results)}\n{END}{after}"


def figures(results: Results) -> str:
    """Machine, goals, and a table for each scenario."""
    parts = [f"{sentence(results.machine)}.", "### Goals", _table(goal_table(verdicts(results)))]
    for name, found in results.scenarios.items():
        parts += [f"### {name}", f"{found.what} {_how(found)}", _table(scenario_table(found))]
    return "\n\n".join(parts)


def _how(found: Found) -> str:
    rounds = max((len(samples) for samples in found.rows.values()), default=0)
    loads = "short loads" if found.settings.get("quick") else "full loads"
    settings = found.settings
    when = f", {settings['date']}, bridge {settings['bridge']}" if settings.get("bridge") else ""
    return f"Rounds: {rounds}, {loads}, seed {settings.get('seed')}{when}."


def _table(table: Table) -> str:
    rule = ["---", *("---:" for _ in table.head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [table.head, tuple(rule), *table.rows])
