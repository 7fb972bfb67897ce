"""Writes a run into the docs: figures, chart, and the results themselves, so that they can be checked."""

from __future__ import annotations

from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.report.chart import chart
from benchmarks.report.markdown import with_figures
from benchmarks.results import Results

FIGURES = Path("docs/performance.md")
CHART = Path("docs/benchmarks.svg")
KEPT = Path("docs/benchmarks.json")


def publish(results: Results, root: Path = ROOT) -> None:
    """Regenerate everything that shows figures."""
    results.write(root / KEPT)
    for path, text in published(results, root).items():
        path.write_text(text, encoding="utf-8")


def published(results: Results, root: Path = ROOT) -> dict[Path, str]:
    """Path -> the text that it has to have."""
    document = (root / FIGURES).read_text(encoding="utf-8")
    return {root / FIGURES: with_figures(document, results), root / CHART: chart(results)}
