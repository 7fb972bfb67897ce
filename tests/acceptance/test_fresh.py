"""scripts/fresh where it cannot do its work: it fails and says what is missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import ROOT


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


def path_with(directory: Path, **commands: str) -> str:
    """A PATH with these commands alone, each by its script."""
    for name, script in commands.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    for name in ("bash", "dirname", "env"):
        (directory / name).symlink_to(f"/usr/bin/{name}")
    return str(directory)


def test_without_root_it_fails(tmp_path: Path) -> None:
    ended = fresh("trixie", PATH=path_with(tmp_path, id="echo 1000"))
    assert (ended.returncode, ended.stderr) == (1, "fresh: a change-root needs root\n")


def test_without_debootstrap_it_fails(tmp_path: Path) -> None:
    ended = fresh("trixie", PATH=path_with(tmp_path, id="echo 0"))
    assert ended.returncode == 1
    assert ended.stderr == "fresh: debootstrap is missing: apt-get install debootstrap\n"
