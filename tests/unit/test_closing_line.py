from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import closing_line
from scripts.closing_line import Tally
from tests.support.processes import ROOT

INNER = """
import os, pytest

def test_passes(): pass
def test_fails_beside_others(): assert os.environ.get("ALONE")
def test_fails(): assert False
def test_is_skipped(): pytest.skip("on purpose")

@pytest.fixture
def broken(): raise RuntimeError
def test_has_no_fixture(broken): pass
"""
RAILS = "Run options: --seed 1\n\n10 runs, 31 assertions, 0 failures, 1 errors, 2 skips\n"


def run_pytest(results: Path, name: str, *options: str, **env: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:celery", "-c", "/dev/null", "--rootdir", results]
    command += [f"--junitxml={results / name}", *options, results / "test_inner.py"]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, env={"PATH": "/usr/bin:/bin", **env})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What the three runners leave behind."""
    (tmp_path / "test_inner.py").write_text(INNER)
    run_pytest(tmp_path, "pytest.xml")
    summary = {"example_count": 5, "failure_count": 1, "pending_count": 1}
    summary["errors_outside_of_examples_count"] = 0
    (tmp_path / "rspec.json").write_text(json.dumps({"summary": summary}))
    (tmp_path / "minitest.log").write_text(RAILS)
    return tmp_path


def test_the_runners_are_added_up(results: Path) -> None:
    assert closing_line.of_pytest(results) == Tally(1, 3, 1)
    assert closing_line.of_rspec(results) == Tally(3, 1, 1)
    assert closing_line.of_minitest(results) == Tally(7, 1, 2)


def test_the_last_line_is_the_verdict(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert closing_line.main(results) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "11 passed, 5 failed, 4 skipped"


def test_what_failed_is_decided_by_the_run_alone(results: Path) -> None:
    run_pytest(results, "pytest-again.xml", "--last-failed", ALONE="1")
    assert closing_line.of_pytest(results) == Tally(2, 2, 1)


@pytest.mark.parametrize("missing", ["pytest.xml", "rspec.json", "minitest.log"])
def test_a_runner_without_results_has_failed(
    results: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = closing_line.main(results)
    (results / missing).write_text("")
    assert (whole, closing_line.main(results)) == (1, 1)
    assert "did not finish" in capsys.readouterr().out


def test_no_test_at_all_is_not_a_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert closing_line.main(tmp_path) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 3 failed, 0 skipped"
