"""What the suite says about itself when tests fail, seen from outside: a run of pytest inside the run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import ROOT


def run_suite(
    directory: Path, source: str, plugins: Sequence[str] = ("tests.support.reports",), **env: str
) -> str:
    """The whole output of pytest for one file of tests, with the suite's own hooks."""
    (directory / "test_inner.py").write_text(textwrap.dedent(source))
    command = [
        sys.executable,
        "-m",
        "pytest",
        *(f"-p{plugin}" for plugin in plugins),
        "-p",
        "no:cacheprovider",
    ]
    command += ["-p", "no:celery", "-c", "/dev/null", "--rootdir", directory, directory]
    environment = {"PATH": os.environ["PATH"], **env}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment
    ).stdout


# The hook read the log by its path. A test that had removed its directory while a process still ran ended the
# whole run as an internal error of pytest, after 237 tests.
def test_a_removed_directory_neither_ends_the_run_nor_hides_the_log(tmp_path: Path) -> None:
    said = run_suite(
        tmp_path,
        """
        import shutil, time
        from tests.support.processes import Process
        from tests.support.waiting import wait_for

        def test_removes_its_directory(tmp_path):
            place = tmp_path / "gone"
            place.mkdir()
            process = Process("talker", ["sh", "-c", "echo last words; exec sleep 60"], place)
            wait_for(lambda: "last words" in process.log, "its words")
            shutil.rmtree(place)
            raise AssertionError("on purpose")

        def test_after_it():
            pass
        """,
    )
    assert "INTERNALERROR" not in said
    assert re.search(r"-+ log of talker .*\nlast words\n", said)
    assert "1 failed, 1 passed" in said


# A server that did not start once filled 3,200 lines with one traceback. The other failures drowned in them.
def test_an_error_of_a_fixture_is_shown_once_and_named_by_the_other_tests(tmp_path: Path) -> None:
    said = run_suite(
        tmp_path,
        """
        import random, pytest

        @pytest.fixture
        def server():
            raise RuntimeError(f"no server on port {random.randrange(9999)}")

        @pytest.mark.parametrize("number", range(30))
        def test_with_the_server(server, number):
            pass

        @pytest.fixture
        def other():
            raise RuntimeError("another reason")

        def test_with_another(other):
            pass
        """,
    )
    assert said.count("raise RuntimeError(f") == 1
    assert said.count("the same error in a fixture as before test_inner.py::test_with_the_server[0]") == 29
    assert 'raise RuntimeError("another reason")' in said
    assert "31 errors" in said


def test_ci_fails_what_is_skipped_for_want_of_a_program_and_nothing_else(tmp_path: Path) -> None:
    source = """
        import pytest

        @pytest.mark.skipif(True, reason="promtool is not installed")
        def test_by_mark(): pass

        def test_by_call(): pytest.skip("chromium is not installed")

        def test_by_import(): pytest.importorskip("there_is_no_such_module")

        def test_of_another_version(): pytest.skip("came with Sidekiq 8.1")
    """
    said = run_suite(tmp_path, source, CI="true")
    assert "2 failed, 1 skipped, 1 error" in said
    assert "skipped, but CI must have what it needs: " in said
    assert "4 skipped" in run_suite(tmp_path, source)
