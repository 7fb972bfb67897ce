"""A real Prometheus with the configuration of deploy/prometheus, aimed at processes of the test."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.processes import ROOT, Process, free_port

CONFIGURATION = ROOT / "deploy/prometheus/prometheus.yml"

needed = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="prometheus is not installed: scripts/setup test"
)


class Prometheus:
    """Scrapes ``targets`` (addresses by job) and evaluates deploy/prometheus/rules.yml."""

    def __init__(self, directory: Path, targets: Mapping[str, list[str]]) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        configuration = directory / "prometheus.yml"
        configuration.write_text(yaml.safe_dump(aimed_at(targets)))
        self.process = Process(
            "prometheus",
            [
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            directory,
        )
        self.process.wait_ready(self._is_ready, 40)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant vector: metric and value of each series."""
        data = self._get("/api/v1/query", query=expression)
        found: list[dict[str, Any]] = data["data"]["result"]
        return found

    def firing(self) -> set[str]:
        """Names of the alerts that somebody would be told of now."""
        alerts = self._get("/api/v1/alerts")["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def stop(self) -> None:
        self.process.stop()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _get(self, path: str, **query: str) -> dict[str, Any]:
        address = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=30) as reply:
            found: dict[str, Any] = json.loads(reply.read())
        assert found["status"] == "success", found
        return found


def aimed_at(targets: Mapping[str, list[str]]) -> dict[str, Any]:
    """The configuration as it stands, its times and rules included; only the addresses are others."""
    configuration: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    configuration["rule_files"] = [str(CONFIGURATION.with_name(name)) for name in configuration["rule_files"]]
    configuration["scrape_configs"] = [
        {"job_name": job["job_name"], "static_configs": [{"targets": targets[job["job_name"]]}]}
        for job in configuration["scrape_configs"]
        if job["job_name"] in targets
    ]
    return configuration
