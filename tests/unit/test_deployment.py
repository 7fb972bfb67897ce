"""The examples of deployment: what systemd says of them, and their time-outs in order."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.settings import load as load_settings
from bridge.worker import shutdown

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = ROOT / "deploy/systemd"
SIDECAR_SETTINGS = ROOT / "sidecar/lib/sidekiq_bridge/sidecar/settings.rb"


def default_of_sidecar(name: str) -> int:
    found = re.search(rf"^ +{name}: (\d+),", SIDECAR_SETTINGS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


#: What each needs after TERM, as docs/operations.md says.
WORKER_SECONDS = int(load_settings({}).shutdown_timeout_seconds) + 15
SIDECAR_SECONDS = default_of_sidecar("timeout") + 20


# -- time-outs


def test_what_the_documents_add_to_the_workers_time_out_is_enough() -> None:
    # Asking for the interruption, the jobs' own end, giving back, signing off, Celery's end.
    assert 4 * shutdown.GRACE_SECONDS + shutdown.GRACE_SECONDS / 3 <= 15
    text = (ROOT / "docs/operations.md").read_text()
    assert "`BRIDGE_SHUTDOWN_TIMEOUT_SECONDS` + 15 s" in text
    assert "`--timeout` + 20 s" in text


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def seconds_of(duration: str) -> int:
    return int(duration.removesuffix("s"))


def test_compose_waits_long_enough_and_stops_the_worker_before_its_sidecars() -> None:
    services = compose()["services"]
    assert seconds_of(services["worker"]["stop_grace_period"]) >= WORKER_SECONDS
    sidecars = [name for name in services if name.startswith("sidecar-")]
    assert len(sidecars) == 2
    for name in sidecars:
        assert seconds_of(services[name]["stop_grace_period"]) >= SIDECAR_SECONDS
    # Compose stops in the reverse order of depends_on: whoever needs Redis goes before it.
    assert {"redis", *sidecars} <= services["worker"]["depends_on"].keys()
    for name in ("web", "worker", "flower", *sidecars):
        assert services[name]["depends_on"]["redis"] == {"condition": "service_healthy"}


def unit(name: str) -> dict[str, list[str]]:
    """Each option of a unit, with all its values."""
    options: dict[str, list[str]] = {}
    for line in (SYSTEMD / f"sidekiq-bridge-{name}.service").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            options.setdefault(key, []).append(value)
    return options


def test_systemd_waits_long_enough_and_stops_the_worker_before_the_sidecar() -> None:
    worker, sidecar = unit("worker"), unit("sidecar")
    assert int(worker["TimeoutStopSec"][0]) >= WORKER_SECONDS
    assert int(sidecar["TimeoutStopSec"][0]) >= SIDECAR_SECONDS
    assert "sidekiq-bridge-sidecar.service" in worker["After"][0].split()
    for options in (worker, sidecar):
        assert options["Type"] == ["notify"]
        # TERM for the main process alone: the keeper and the Puma workers end by it.
        assert options["KillMode"] == ["mixed"]
        # Longer than several signs of life, which come each second at least.
        assert int(options["WatchdogSec"][0]) >= 10


def test_kubernetes_waits_for_the_worker_and_then_for_the_sidecar() -> None:
    # One time for both, one after the other.
    deployment = yaml.safe_load((ROOT / "deploy/kubernetes/deployment.yaml").read_text())
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= WORKER_SECONDS + SIDECAR_SECONDS


# -- systemd


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["worker", "sidecar"])
def test_systemd_understands_every_line(name: str, tmp_path: Path) -> None:
    for other in ("worker", "sidecar"):
        text = (SYSTEMD / f"sidekiq-bridge-{other}.service").read_text()
        text = re.sub(r"/opt/sidekiq-bridge/\S*/(python|sidecar)(?= )", "/bin/true", text)
        (tmp_path / f"sidekiq-bridge-{other}.service").write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / f"sidekiq-bridge-{name}.service")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if "sidekiq-bridge" in line]
    assert (done.returncode, said) == (0, [])
