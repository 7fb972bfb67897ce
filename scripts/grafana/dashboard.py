"""Turns the panels into the JSON that Grafana reads (schema 39: Grafana 10.4 and later)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.grafana.panels import ROWS, Panel, Row

FILE = Path(__file__).resolve().parents[2] / "deploy/grafana/dashboards/sidekiq-bridge.json"
COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

#: What Grafana puts in the place of its variables, for who asks a query without Grafana.
VARIABLES = {"$__rate_interval": "30s", "$queue": ".*", "$worker": ".*"}


def plain(expression: str) -> str:
    """A query of the dashboard as Prometheus takes it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    return {
        "uid": "sidekiq-bridge",
        "title": "Sidekiq Bridge",
        "description": "Workers of Sidekiq Bridge and their sidecars. Written by scripts/dashboard.",
        "tags": ["sidekiq", "celery", "bridge"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), _choice("queue"), _choice("worker")]},
        "annotations": {"list": []},
        "panels": list(_placed()),
    }


def text() -> str:
    """The text of the dashboard's file."""
    return json.dumps(dashboard(), indent=1) + "\n"


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "type": "datasource",
        "query": "prometheus",
        "label": "Prometheus",
        "hide": 0,
    }


def _choice(label: str) -> dict[str, Any]:
    query = f"label_values(sidekiq_jobs_executed_total, {label})"
    return {
        "name": label,
        "label": {"worker": "class"}.get(label, label),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _placed() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for row in ROWS:
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        number, top = number + 1, top + 1
        for panel, left, down in _grid(row):
            place = {"h": row.height, "w": panel.width, "x": left, "y": top + down}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            number += 1
        top += (1 + down // row.height) * row.height


def _grid(row: Row) -> Iterator[tuple[Panel, int, int]]:
    left = down = 0
    for panel in row.panels:
        if left + panel.width > COLUMNS:
            left, down = 0, down + row.height
        yield panel, left, down
        left += panel.width


def _panel(panel: Panel) -> dict[str, Any]:
    defaults = {"unit": panel.unit, "min": 0 if "rejected" not in str(panel.queries) else None}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend or "__auto",
            }
            for i, (query, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": {**defaults, **_looks(panel)}, "overrides": []},
        "options": _options(panel),
    }


def _looks(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bad_from is not None:
        steps.append({"color": "red", "value": panel.bad_from})
    if panel.kind == "state-timeline":
        return {
            "color": {"mode": "fixed", "fixedColor": "red"},
            "custom": {"fillOpacity": 80, "lineWidth": 0},
        }
    custom = {
        "lineWidth": 1,
        "fillOpacity": 30 if panel.stacked else 10,
        "showPoints": "never",
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if panel.bad_from is None else "line"},
    }
    looks: dict[str, Any] = {"thresholds": {"mode": "absolute", "steps": steps}}
    return (
        looks if panel.kind == "stat" else {**looks, "color": {"mode": "palette-classic"}, "custom": custom}
    )


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "area", "textMode": "value"}
    if panel.kind == "state-timeline":
        return {"showValue": "never", "rowHeight": 0.8, "mergeValues": True, "legend": {"showLegend": False}}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
