"""deploy/Procfile names programs and options that exist."""

from __future__ import annotations

import re
from pathlib import Path

from honcho.environ import parse_procfile

ROOT = Path(__file__).resolve().parents[2]


def test_it_starts_web_sidecar_and_worker_with_options_that_exist() -> None:
    processes = parse_procfile((ROOT / "deploy/Procfile").read_text()).processes
    assert list(processes) == ["web", "sidecar", "worker"]
    options = set(re.findall(r"--[a-z-]+", processes["sidecar"]))
    cli = (ROOT / "sidecar/lib/sidekiq_bridge/sidecar/cli.rb").read_text()
    assert options
    assert {option for option in options if f'"{option} ' not in cli} == set()
    assert "celery -A bridge worker" in processes["worker"]
    # The same socket on both sides.
    (bind,) = re.findall(r'--bind "(\S+)"', processes["sidecar"])
    assert f'BRIDGE_SIDECAR_URL="{bind}"' in processes["worker"]
    # exec: signals reach the program itself, not a shell.
    assert all(re.search(r"\bexec ", command) for command in processes.values())
