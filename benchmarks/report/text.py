"""The report on a terminal."""

from __future__ import annotations

from benchmarks.goals import verdicts
from benchmarks.machine import sentence
from benchmarks.report.table import Table, goal_table, scenario_table
from benchmarks.results import Results

#: Limits that every report prints, because figures travel without their README.
LIMITS = (
    "Not shown: a network between the parts, a busy or large database, jobs of a real app, "
    "a fleet at full load.",
    "Ratios are medians of the ratios of single rounds; +- is half of their range. With few rounds, "
    "differences of less than that say nothing.",
)


def report(results: Results) -> str:
    """All scenarios, the goals, machine and limits."""
    parts = [
        f"{name}: {found.what}\n{_lines(scenario_table(found))}" for name, found in results.scenarios.items()
    ]
    found = [verdict for verdict in verdicts(results) if verdict.value is not None]
    if found:
        parts.append(f"Goals\n{_lines(goal_table(found))}")
    parts += [f"FAILED {error}" for error in results.errors]
    parts.append("\n".join([sentence(results.machine), *results.notes, *LIMITS]))
    return "\n\n".join(["", *parts])


def _lines(table: Table) -> str:
    cells = [table.head, *table.rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.head))]
    return "\n".join(_line(row, widths) for row in cells)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    first, *rest = row
    cells = [
        first.ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)),
    ]
    return f"  {'   '.join(cells)}".rstrip()
