"""The command that `bridge up` starts its workers with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: A module whose application cannot be used: it prints what is loaded, and ends.
LOADED = "import sys; print(' '.join(sorted({name.split('.')[0] for name in sys.modules}))); sys.exit(3)"


def run(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bridge.worker.command", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_other_commands_of_celery_are_not_loaded(tmp_path: Path) -> None:
    # Given Flower, whose plug-in the `celery` command loads, and an app that says what is loaded
    (tmp_path / "shown.py").write_text(LOADED)
    # When the worker's command starts
    found = run(tmp_path, "-A", "shown", "worker")
    # Then neither the plug-in nor the interactive shell is there
    assert found.returncode == 3, found.stderr
    assert not {"flower", "tornado", "click_repl", "prompt_toolkit"} & set(found.stdout.split())


def test_a_variable_for_celery_itself_brings_the_whole_command(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(LOADED)
    found = run(tmp_path, "-A", "shown", "worker", SKIP_CHECKS="1")
    assert {"flower", "click_repl"} <= set(found.stdout.split())


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (None, "The module nosuch was not found"),
        ("x = 1", "has no attribute"),
        ("raise ValueError('bad port')", "bad port"),
    ],
)
def test_an_app_that_cannot_be_loaded_gets_celerys_sentence(
    tmp_path: Path, code: str | None, sentence: str
) -> None:
    if code:
        (tmp_path / "nosuch.py").write_text(code)
    found = run(tmp_path, "-A", "nosuch", "worker")
    assert found.returncode == 2
    assert sentence in found.stderr


def test_options_are_those_of_celerys_worker(tmp_path: Path) -> None:
    found = run(tmp_path, "-A", "bridge", "worker", "-c", "nope")
    assert found.returncode == 2
    assert "'-c' / '--concurrency'" in found.stderr
