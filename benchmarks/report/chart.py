"""A chart of the ratios, as SVG: no library draws twenty bars better than twenty lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.cast import NATIVE, SIDECAR
from benchmarks.figures import median, median_ratio
from benchmarks.machine import sentence
from benchmarks.metrics import METRICS
from benchmarks.results import Found, Results

WIDTH, BAR, GAP, HEAD, FOOT = 860, 17, 4, 62, 58
LEFT, RIGHT, TITLE = 250, 150, 24
#: Longer bars are cut: the figure beside them counts.
MOST = 2.5
#: All with the payload of a real job.
SHOWN = (
    "1 KB of arguments",
    "two workers, 1 KB of arguments",
    "5 ms Ruby CPU",
    "10 ms waiting",
    "ActiveJob with a database write",
    "ActiveJob with a GlobalID",
    "failing job",
    "promotion",
)
COLOURS = {"bridge": "#1a7f64", "Sidekiq": "#b1003e", "Celery": "#7a8b2f", "naive": "#8a8f98"}


@dataclass(frozen=True)
class Bar:
    """``ratio`` to the base; ``text`` is the figure itself."""

    label: str
    ratio: float
    text: str


def chart(results: Results) -> str:
    """Throughput of all peers in the scenarios that say most, the newest Sidekiq being 1."""
    groups = [(name, _bars(results.scenarios[name])) for name in SHOWN if name in results.scenarios]
    height = HEAD + sum(TITLE + len(bars) * (BAR + GAP) + 12 for _, bars in groups) + FOOT
    found = [results.scenarios[name] for name, _ in groups]
    base = next((results.scenarios[name].base for name, _ in groups), "")
    parts = [
        _opening(height),
        *_heading(f"Jobs per second{_payload(found)}, {base} = 1 (median of the ratios of single rounds)"),
    ]
    top = HEAD
    for name, bars in groups:
        parts += _group(name, bars, top)
        top += TITLE + len(bars) * (BAR + GAP) + 12
    parts += [_reference(top), *_footing(sentence(results.machine), height), "</svg>"]
    return "\n".join(parts) + "\n"


def _payload(found: Sequence[Found]) -> str:
    """The size of arguments, where one run after the other used the same; older runs had empty jobs."""
    sizes = {each.settings.get("payload_kb") for each in found}
    return f" with {sizes.pop()} KB of arguments" if len(sizes) == 1 and None not in sizes else ""


def _bars(found: Found) -> list[Bar]:
    base = found.rows[found.base]
    bars = []
    for label, samples in found.rows.items():
        ratio, value = median_ratio(samples, base, found.metric), median(samples, found.metric)
        if ratio is not None:
            bars.append(Bar(label, ratio, METRICS[found.metric].text(value)))
    return bars


def _opening(height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    )


def _heading(text: str) -> list[str]:
    return [
        _text(16, 26, "The bridge beside its peers", size=17, bold=True),
        _text(16, 47, text, fill="#57606a"),
    ]


def _group(name: str, bars: Sequence[Bar], top: int) -> list[str]:
    parts = [_text(16, top + 15, name, size=13, bold=True)]
    for place, bar in enumerate(bars):
        parts += _bar(bar, top + TITLE + place * (BAR + GAP))
    return parts


def _bar(bar: Bar, top: int) -> list[str]:
    width = max(1.0, min(bar.ratio, MOST) * _scale())
    colour = next((found for word, found in COLOURS.items() if bar.label.startswith(word)), "#57606a")
    ours = bar.label.startswith((NATIVE, SIDECAR))
    return [
        _text(LEFT - 8, top + 13, bar.label, anchor="end", bold=ours),
        f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>',
        _text(LEFT + width + 6, top + 13, f"{bar.ratio:.2f}   {bar.text}/s", fill="#24292f", bold=ours),
    ]


def _scale() -> float:
    return (WIDTH - LEFT - RIGHT) / MOST


def _reference(bottom: int) -> str:
    place = LEFT + _scale()
    return f'<path d="M{place:.1f} {HEAD} V{bottom}" stroke="#24292f" stroke-dasharray="3 3"/>'


def _footing(text: str, height: int) -> list[str]:
    words, lines = text.split("; "), []
    lines = ["; ".join(words[:1]), "; ".join(words[1:])]
    return [
        _text(16, height - 32 + 16 * row, line, size=11, fill="#57606a") for row, line in enumerate(lines)
    ]


def _text(
    left: float,
    top: float,
    text: str,
    *,
    size: int = 12,
    fill: str = "#24292f",
    anchor: str = "start",
    bold: bool = False,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{left:.1f}" y="{top:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}>'
        f"{escape(text)}</text>"
    )
