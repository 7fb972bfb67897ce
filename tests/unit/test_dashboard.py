"""deploy/grafana: the dashboard is current, whole, and asks for series that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.grafana import dashboard

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy/grafana"


def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dashboard.FILE.read_text())
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in written()["panels"] for target in panel.get("targets", ())]


def test_the_file_is_current() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "run scripts/dashboard"


def test_no_two_panels_share_a_place_or_a_number() -> None:
    panels = written()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= dashboard.COLUMNS for place in places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    return across and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]


def test_each_series_is_documented_and_each_documented_group_is_shown() -> None:
    known = (ROOT / "docs/metrics.md").read_text()
    used = {name for query in queries() for name in re.findall(r"\b(?:bridge|sidekiq|process)_\w+", query)}
    plain = {re.sub(r"_bucket$", "", name) for name in used}
    assert {name for name in plain if f"`{name}`" not in known} == set()
    assert len(plain) > 25


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed: scripts/setup test")
def test_prometheus_understands_each_query(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{i}", "expr": dashboard.plain(query)} for i, query in enumerate(queries())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_variable_of_a_query_can_be_chosen() -> None:
    names = {variable["name"] for variable in written()["templating"]["list"]}
    used = {name for query in queries() for name in re.findall(r"\$(\w+)", query)}
    assert used - {"__rate_interval"} <= names


def test_what_provisions_it_fits_to_the_compose_file() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/sidekiq-bridge.yml").read_text())[
        "providers"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in compose["grafana"]["volumes"]
    assert compose["grafana"]["profiles"] == compose["prometheus"]["profiles"] == ["monitoring"]
    assert re.search(r"grafana/grafana:\$\{GRAFANA_VERSION:-\d+\.\d+\.\d+\}", compose["grafana"]["image"])
    for name in ("grafana", "prometheus"):
        assert all(port.startswith("127.0.0.1:") for port in compose[name]["ports"])
