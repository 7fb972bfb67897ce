from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path

import pytest

from bridge.errors import ConfigurationError
from bridge.monitoring.logs import files
from bridge.monitoring.logs.files import RotatingFile
from bridge.settings import Settings
from bridge.settings import load as load_settings


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, __file__, 1, text, (), None)


def settings(**env: str) -> Settings:
    return load_settings({f"BRIDGE_{name.upper()}": value for name, value in env.items()})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_go_to_stdout_or_to_the_file_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    stdout = files.target(settings(), None)
    assert isinstance(stdout, logging.StreamHandler)
    assert os.path.sameopenfile(stdout.stream.fileno(), sys.__stdout__.fileno())
    handler = files.target(settings(log_file=str(path)), None)
    handler.emit(record("hello"))
    assert path.read_text() == "hello\n"


def test_a_file_that_logrotate_moved_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    handler = files.target(settings(log_file=str(path)), None)
    handler.emit(record("one"))
    path.rename(tmp_path / "worker.log.1")
    handler.emit(record("two"))
    assert (path.read_text(), (tmp_path / "worker.log.1").read_text()) == ("two\n", "one\n")


def test_a_file_is_rotated_at_its_size_and_old_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    handler = files.target(settings(log_file=str(path), log_file_megabytes="0.001", log_files_kept="2"), None)
    for _ in range(10):
        handler.emit(record("x" * 600))
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "worker.log",
        "worker.log.1",
        "worker.log.2",
    ]
    assert all(each.stat().st_size <= 1000 for each in tmp_path.iterdir())


def test_a_pool_process_follows_the_file_and_does_not_rotate_it(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    handler = RotatingFile(str(path), 1000, 3)
    handler._owner_pid = os.getpid() + 1  # as seen after a fork
    for _ in range(10):
        handler.emit(record("x" * 600))
    assert [each.name for each in tmp_path.iterdir()] == ["worker.log"]
    path.rename(tmp_path / "worker.log.1")
    path.touch()
    handler.emit(record("after"))
    assert path.read_text() == "after\n"


@pytest.mark.parametrize(
    ("choice", "terminal", "expected"),
    [
        ("auto", True, False),
        ("auto", False, True),
        ("text", False, False),
        ("json", True, True),
    ],
)
def test_auto_writes_text_for_eyes_and_json_for_machines(choice: str, terminal: bool, expected: bool) -> None:
    handler = logging.StreamHandler(Terminal() if terminal else io.StringIO())
    assert files.is_json(settings(log_format=choice), handler) is expected


def test_a_log_file_in_no_folder_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"BRIDGE_LOG_FILE=/no/such/worker\.log"):
        settings(log_file="/no/such/worker.log")
