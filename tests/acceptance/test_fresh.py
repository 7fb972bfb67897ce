"""scripts/fresh where it cannot do its work: it fails and says what is missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import ROOT

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")


def fresh(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "scripts/fresh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("buster",), "the release must be bookworm or trixie, not buster"),
        (("trixie", "bench"), "the command must be demo or test, not bench"),
    ],
)
def test_what_it_does_not_know_is_refused(arguments: tuple[str, ...], said: str) -> None:
    ended = fresh(*arguments)
    assert (ended.returncode, ended.stderr) == (1, f"fresh: {said}\n")


@as_root
def test_without_root_it_fails(tmp_path: Path) -> None:
    command = ["setpriv", "--reuid", "65534", "--clear-groups", "bash", ROOT / "scripts/fresh"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert (ended.returncode, ended.stderr) == (1, "fresh: a change-root needs root\n")


@as_root
def test_without_debootstrap_it_fails(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "id", "env"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    ended = fresh("trixie", PATH=str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr == "fresh: debootstrap is missing: apt-get install debootstrap\n"
