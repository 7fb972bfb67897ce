"""The base images of the containers can be pinned by digest."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.processes import ROOT

DIGEST = "sha256:" + "ab" * 32


def test_every_image_that_compose_builds_takes_its_base_from_outside() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    built = {name: service["build"] for name, service in services.items() if "build" in service}
    assert built
    for name, build in built.items():
        assert "BASE" in build["args"], name
        lines = (ROOT / build["dockerfile"]).read_text(encoding="utf-8").splitlines()
        assert "ARG BASE=debian:bookworm-slim" in lines
        stages = {line.split()[-1] for line in lines if line.startswith("FROM") and " AS " in line}
        bases = {line.split()[1] for line in lines if line.startswith("FROM")}
        assert bases <= {"${BASE}", *stages}


@pytest.mark.parametrize("answer", [f"debian@{DIGEST}", "debian"])
def test_pin_bases_names_the_digests_of_what_was_pulled(tmp_path: Path, answer: str) -> None:
    """A docker that answers like one with a registry: none can be reached while tests run."""
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\n[ "$1" = pull ] && exit\necho "{answer}"\n', encoding="utf-8")
    docker.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [ROOT / "deploy/docker/pin-bases"], capture_output=True, text=True, env=env, check=False
    )
    if "@" in answer:
        assert done.stdout.splitlines() == [
            f"BASE=debian:bookworm-slim@{DIGEST}",
            f"GRAFANA_VERSION=12.0.2@{DIGEST}",
        ]
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert "gave no digest for debian:bookworm-slim" in done.stderr
