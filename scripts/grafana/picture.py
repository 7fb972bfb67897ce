"""Draws the dashboard for the documents, with the answers of a real Prometheus to its own queries.

Grafana itself comes as a container image or a vendor's package, which not every machine that builds
the documents can fetch. So this draws the panels where the dashboard puts them, in a plain way of its own:
the data and the places are the dashboard's, the looks are not.
"""

from __future__ import annotations

import html
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.grafana import dashboard

FILE = dashboard.FILE.parents[3] / "docs/dashboard.png"
COLUMN, LINE, GAP = 52, 24, 6
COLORS = ("#7EB26D", "#EAB839", "#6ED0E0", "#EF843C", "#E24D42", "#1F78C1", "#BA43A9", "#705DA0", "#508642")
VARIABLES = {"$__rate_interval": "30s", "$queue": ".*", "$worker": ".*"}
POINTS = 240


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its legend, and value by time."""

    legend: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of time that is shown, in Unix seconds."""

    start: float
    end: float


def plain(expression: str) -> str:
    """A query of the dashboard as Prometheus takes it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def draw(url: str, *, minutes: float) -> None:
    """Ask the Prometheus at ``url`` and write docs/dashboard.png."""
    from playwright.sync_api import sync_playwright  # only here: the check needs no browser

    now = time.time()
    page_text = page(url, Span(now - 60 * minutes, now))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": COLUMN * dashboard.COLUMNS + 2 * GAP, "height": 600})
        tab.set_content(page_text)
        tab.screenshot(path=str(FILE), full_page=True)
        browser.close()


def page(url: str, span: Span) -> str:
    """The dashboard as one HTML page."""
    panels = dashboard.dashboard()["panels"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * LINE
    boxes = "".join(_box(url, span, panel) for panel in panels)
    return (
        "<style>body{margin:6px;background:#111217;color:#ccccdc;font:12px sans-serif}"
        "div{position:absolute;overflow:hidden}.p{background:#181b1f;border:1px solid #2c2f36}"
        "b{display:block;padding:4px 8px;font-weight:500}.r b{padding:4px 0;color:#fff}"
        "span{margin:0 8px;white-space:nowrap}.n{font-size:30px;text-align:center;padding:6px}</style>"
        f"<div style='position:relative;height:{bottom}px'>{boxes}</div>"
    )


def _box(url: str, span: Span, panel: dict[str, Any]) -> str:
    place = panel["gridPos"]
    width, height = place["w"] * COLUMN - GAP, place["h"] * LINE - GAP
    style = f"left:{place['x'] * COLUMN}px;top:{place['y'] * LINE}px;width:{width}px;height:{height}px"
    title = f"<b>{html.escape(panel['title'])}</b>"
    if panel["type"] == "row":
        return f"<div class=r style='{style}'>{title}</div>"
    lines = [line for target in panel["targets"] for line in _ask(url, span, target)]
    return f"<div class=p style='{style}'>{title}{_body(panel, lines, span, width, height)}</div>"


def _body(panel: dict[str, Any], lines: list[Line], span: Span, width: int, height: int) -> str:
    lines = [line for line in lines if line.points]
    if panel["type"] == "stat":
        return _number(panel, lines)
    if not lines:
        return "<div class=n style='position:static;font-size:14px'>No data</div>"
    if panel["type"] == "state-timeline":
        return _states(lines, span, width, height)
    return _chart(panel, lines, span, width, height)


def _states(lines: list[Line], span: Span, width: int, height: int) -> str:
    left, row = 170, (height - 56) / len(lines)
    scale, step = (width - left - 10) / (span.end - span.start), _step(span)
    marks = [
        _label(left, height - 38, "start", _clock(span.start)),
        _label(width - 10, height - 38, "end", _clock(span.end)),
    ]
    for i, line in enumerate(lines):
        marks.append(_label(left - 8, i * row + row / 2 + 4, "end", html.escape(line.legend)))
        marks += [
            f"<rect x={left + (at - span.start) * scale:.1f} y={i * row + 1:.1f} fill='#F2495C'"
            f" width={step * scale + 0.6:.1f} height={row - 2:.1f} />"
            for at, _ in line.points
        ]
    return f"<svg width={width} height={height - 30}>{''.join(marks)}</svg>"


def _ask(url: str, span: Span, target: dict[str, Any]) -> list[Line]:
    query = {"query": plain(target["expr"]), "start": span.start, "end": span.end, "step": _step(span)}
    with urllib.request.urlopen(  # nosec B310
        f"{url}/api/v1/query_range?{urllib.parse.urlencode(query)}", timeout=30
    ) as reply:
        result = json.load(reply)["data"]["result"]
    return [
        Line(_legend(target["legendFormat"], series["metric"]), _points(series["values"]))
        for series in result
    ]


def _step(span: Span) -> float:
    return max(5, (span.end - span.start) / POINTS)


def _clock(at: float) -> str:
    return time.strftime("%H:%M", time.localtime(at))


def _points(values: Sequence[tuple[float, str]]) -> tuple[tuple[float, float], ...]:
    return tuple((at, float(value)) for at, value in values if value != "NaN")


def _legend(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), form)


def _number(panel: dict[str, Any], lines: list[Line]) -> str:
    points = lines[0].points if lines else ()
    defaults = panel["fieldConfig"]["defaults"]
    text = _value(points[-1][1], defaults["unit"]) if points else "No data"
    steps = defaults["thresholds"]["steps"]
    bad = len(steps) > 1 and points and points[-1][1] >= steps[1]["value"]
    return f"<div class=n style='position:static;color:{'#F2495C' if bad else '#73BF69'}'>{text}</div>"


def _chart(panel: dict[str, Any], lines: list[Line], span: Span, width: int, height: int) -> str:
    drawn = (
        _stacked(lines)
        if panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
        else lines
    )
    top = max((value for line in drawn for _, value in line.points), default=0) * 1.1 or 1.0
    left, inner = 52, height - 74
    across, down = (width - left - 10) / (span.end - span.start), inner / top
    paths = "".join(
        f"<polyline fill=none stroke-width=1.5 stroke='{COLORS[i % len(COLORS)]}' points='"
        + " ".join(
            f"{left + (at - span.start) * across:.1f},{10 + inner - max(0.0, value) * down:.1f}"
            for at, value in piece
        )
        + "'/>"
        for i, line in enumerate(drawn)
        for piece in _pieces(line, _step(span))
    )
    unit = panel["fieldConfig"]["defaults"]["unit"]
    return (
        f"<svg width={width} height={inner + 24}>{_axes(span, top, unit, left, width, inner)}{paths}</svg>"
        + _legends(lines)
    )


def _pieces(line: Line, step: float) -> list[list[tuple[float, float]]]:
    """A line ends where there is no data."""
    pieces: list[list[tuple[float, float]]] = []
    for point in line.points:
        if not pieces or point[0] - pieces[-1][-1][0] > 1.5 * step:
            pieces.append([])
        pieces[-1].append(point)
    return pieces


def _axes(span: Span, top: float, unit: str, left: int, width: int, inner: int) -> str:
    marks = []
    for share in (0.0, 0.5, 1.0):
        y = 10 + inner * (1 - share)
        marks.append(f"<line x1={left} x2={width - 10} y1={y} y2={y} stroke='#2c2f36'/>")
        marks.append(_label(left - 6, y + 4, "end", _value(top * share, unit)))
        x = left + share * (width - left - 10)
        clock = _clock(span.start + share * (span.end - span.start))
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[share]
        marks.append(_label(x, inner + 22, anchor, clock))
    return "".join(marks)


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f"<text x={x} y={y} fill='#8e8e9a' font-size=10 text-anchor={anchor}>{text}</text>"


def _legends(lines: list[Line]) -> str:
    return "".join(
        f"<span style='color:{COLORS[i % len(COLORS)]}'>&#9644; {html.escape(line.legend)}</span>"
        for i, line in enumerate(lines)
    )


def _stacked(lines: list[Line]) -> list[Line]:
    below: dict[float, float] = {}
    stacked = []
    for line in lines:
        for at, value in line.points:
            below[at] = below.get(at, 0.0) + value
        stacked.append(Line(line.legend, tuple((at, below[at]) for at, _ in line.points)))
    return stacked


def _value(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value * 100:.0f}%"
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g}" + {"s": " s", "ops": "/s"}.get(unit, "")
