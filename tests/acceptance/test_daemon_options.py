"""The user, the files and the background of a worker: each option works, or is refused in one sentence."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil
import pytest

from tests.support.processes import ROOT, clean_environment
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for
from tests.support.worker_process import CELERY, bridge_environment

NOBODY, ME = "nobody", pwd.getpwuid(os.geteuid()).pw_name
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


def environment(redis_url: str = "redis://127.0.0.1:1/0") -> dict[str, str]:
    return clean_environment() | bridge_environment(redis_url, "unix:///nowhere.sock")


def start(
    *words: object, app: str = "bridge", command: str = "worker", interpreter: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end: it is refused, or it goes to the background."""
    celery = [interpreter, "-m", "celery"] if interpreter else [str(CELERY)]
    return subprocess.run(
        [*celery, "-A", app, command, *map(str, words)],
        cwd=ROOT, env=environment() | env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def refused(ended: subprocess.CompletedProcess[str], sentence: str, status: int = 78) -> None:
    assert "Traceback" not in ended.stderr + ended.stdout
    assert [line for line in ended.stderr.splitlines() if line.startswith("bridge: ")] == [
        f"bridge: {sentence}"
    ]
    assert ended.returncode == status


@pytest.mark.parametrize("option", ["-f", "--pidfile"])
@pytest.mark.parametrize("background", [[], ["-D"]], ids=["", "detached"])
def test_a_file_in_a_missing_folder_is_refused(tmp_path: Path, option: str, background: list[str]) -> None:
    """-f ended in a traceback; in the background nobody saw it, and the status was 0."""
    path = tmp_path / "missing" / "worker"
    words = (
        [*background, option, path] if option == "-f" else [*background, "-f", tmp_path / "log", option, path]
    )
    refused(
        start(*words),
        f"{option} {path}: the user {ME} finds no folder {path.parent}. Make it, or name another.",
    )


@pytest.mark.parametrize("option", ["-f", "--pidfile"])
def test_a_folder_is_no_file(tmp_path: Path, option: str) -> None:
    refused(start(option, tmp_path), f"{option} {tmp_path}: this is a folder. Name a file in it.")


def test_beat_refuses_a_file_in_a_missing_folder_too(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "beat.pid"
    refused(
        start("--pidfile", path, command="beat"),
        f"--pidfile {path}: the user {ME} finds no folder {path.parent}. Make it, or name another.",
    )


def test_the_pidfile_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    path.write_text(f"{os.getpid()}\n")
    sentence = (
        f"--pidfile {path}: the process {os.getpid()} runs. If it is not this worker, remove the file: its "
        "number is that of another program now."
    )
    refused(start("--pidfile", path), sentence, os.EX_CANTCREAT)
    refused(start("-D", "-f", tmp_path / "log", "--pidfile", path), sentence, os.EX_CANTCREAT)
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--uid", "no-such-user"], "--uid no-such-user: this machine has no such user."),
        (["--gid", "no-such-group"], "--gid no-such-group: this machine has no such group."),
        (["-D", "--executable", "/nowhere"], f"--executable /nowhere: the user {ME} may not run this file."),
    ],
    ids=["user", "group", "executable"],
)  # fmt: skip
def test_a_user_or_a_program_that_is_not_there_is_refused(words: list[str], sentence: str) -> None:
    refused(start(*words), sentence)


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_pool_that_cannot_be_loaded_is_refused_though_a_module_reads_the_settings_at_its_import(
    tmp_path: Path, place: str
) -> None:
    """The first read of ``app.conf`` made the check, when no command of Celery's ran yet."""
    lines = ["app.conf.worker_pool = 'nowhere'", "app.conf.timezone"]
    text = "\n".join(["from bridge import app", *(lines if place == "behind" else reversed(lines))])
    (tmp_path / "early_settings.py").write_text(text)
    ended = start(app="early_settings", PYTHONPATH=f"{ROOT}:{tmp_path}")
    refused(
        ended,
        "worker_pool = 'nowhere' cannot be loaded: No module named 'nowhere'. "
        'Write "package.module:Class", or remove it',
    )


# -- the background


class Background:
    """A worker that ``-D`` has sent there."""

    def __init__(self, place: Path) -> None:
        self.log, self._pidfile = place / "worker.log", place / "worker.pid"
        self.files = ("-f", self.log, "--pidfile", self._pidfile)

    @property
    def process(self) -> psutil.Process:
        wait_for(
            lambda: self._pidfile.exists() and self._pidfile.read_text().endswith("\n"), "the pidfile", 30
        )
        return psutil.Process(int(self._pidfile.read_text()))

    def wait_ready(self) -> psutil.Process:
        wait_for(lambda: self.log.exists() and " ready." in self.log.read_text(), "the worker", 30)
        return self.process

    def stop(self) -> None:
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            process = psutil.Process(int(self._pidfile.read_text()))
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@pytest.fixture
def background() -> Iterator[Background]:
    with tempfile.TemporaryDirectory() as name:  # where the user nobody may come
        os.chmod(name, 0o777)
        made = Background(Path(name))
        yield made
        made.stop()


def test_a_worker_in_the_background_starts_once_and_ends_by_its_pidfile(
    background: Background, redis_server: RedisServer
) -> None:
    """Celery left -ED as it was, so each process in the background started another one, without end."""
    ended = start("-ED", "-c", 1, *background.files, BRIDGE_REDIS_URL=redis_server.url_of(11))
    assert (ended.returncode, ended.stderr) == (0, "")
    worker = background.wait_ready()
    assert "-E" in worker.cmdline()
    assert not {"-D", "-ED"} & set(worker.cmdline())
    background.stop()
    assert not worker.is_running()
    assert not list(background.log.parent.glob("*.pid"))


def test_the_log_has_the_sentence_by_which_a_worker_in_the_background_ends(
    background: Background, redis_server: RedisServer
) -> None:
    """It ended without a word: it has no stderr."""
    assert start("-D", *background.files, BRIDGE_REDIS_URL=redis_server.url_of(99999)).returncode == 0
    wait_for(background.log.exists, "the log", 30)
    wait_for(lambda: "has no database of this number" in background.log.read_text(), "the sentence", 30)


def test_a_background_without_a_log_is_named(background: Background, redis_server: RedisServer) -> None:
    ended = start("-D", *background.files[2:], BRIDGE_REDIS_URL=redis_server.url_of(11))
    assert ended.stderr == "bridge: -D without -f: the log goes nowhere. Name a file by -f.\n"
    assert background.process.is_running()


# -- another user


@cache
def interpreter_of_all() -> tuple[str, str]:
    """A Python that the user nobody may run with the bridge, and its PYTHONPATH. Skips without one."""
    path = f"{ROOT}:{sysconfig.get_path('purelib')}"
    for python in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
        with contextlib.suppress(OSError):
            tried = subprocess.run(
                [python, "-c", "import bridge, celery.bin.celery, hiredis, httptools"],
                user=NOBODY, group="nogroup", extra_groups=[], cwd="/", env={"PYTHONPATH": path},
                capture_output=True, check=False,
            )  # fmt: skip
            if tried.returncode == 0:
                return python, path
    pytest.skip("no Python here that the user nobody may run")


@as_root
@pytest.mark.parametrize(
    "words", [["--uid", NOBODY], ["--uid=nobody", "--gid=nogroup"]], ids=["words", "signs"]
)
def test_a_worker_in_the_background_is_that_user(
    background: Background, redis_server: RedisServer, words: list[str]
) -> None:
    """It ended without a word: Celery left the value of --uid on its command line, or became nobody again."""
    python, path = interpreter_of_all()
    env = {"PYTHONPATH": path, "BRIDGE_REDIS_URL": redis_server.url_of(11)}
    ended = start("-D", "-c", 1, *words, *background.files, interpreter=python, **env)
    assert ended.returncode == 0, ended.stderr
    worker = background.wait_ready()
    assert set(worker.uids()) == {pwd.getpwnam(NOBODY).pw_uid}
    assert background.log.owner() == NOBODY
    # When it starts again in the same process
    before = background.log.read_text().count(" ready.")
    worker.send_signal(signal.SIGHUP)
    wait_for(lambda: background.log.read_text().count(" ready.") > before, "the worker", 30)
    assert set(worker.uids()) == {pwd.getpwnam(NOBODY).pw_uid}


@as_root
@pytest.mark.parametrize("option", ["-f", "--pidfile", "BRIDGE_LOG_FILE"])
def test_files_are_looked_at_as_that_user(tmp_path: Path, option: str) -> None:
    python, path = interpreter_of_all()
    file = tmp_path / "worker"
    words, env = ([], {option: str(file)}) if option.isupper() else ([option, file], {})
    ended = start("--uid", NOBODY, *words, interpreter=python, PYTHONPATH=path, **env)
    named = f"{option}={file}" if env else f"{option} {file}"
    assert f"bridge: {named}: " in ended.stderr
    assert ended.returncode == 78
    assert "Traceback" not in ended.stderr


@as_root
def test_a_user_who_may_not_read_python_is_refused(tmp_path: Path) -> None:
    """The worker died of the first module that it loaded late; in the background without a word."""
    python = tmp_path / "python"
    python.write_bytes(b"")
    python.chmod(0o700)
    ended = start("-D", "--uid", NOBODY, "--executable", python, "-f", tmp_path / "log")
    assert f"--uid {NOBODY}: the user {NOBODY} may not read " in ended.stderr
    assert ended.returncode == 78


@as_root
def test_only_root_becomes_another_user(tmp_path: Path) -> None:
    python, path = interpreter_of_all()
    ended = subprocess.run(
        [python, "-m", "celery", "-A", "bridge", "worker", "--uid", "root"],
        user=NOBODY, group="nogroup", extra_groups=[], cwd="/", env=environment() | {"PYTHONPATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    refused(
        ended,
        "--uid root: only root may become another user, and this is nobody. Start the worker as that user, "
        "and leave the option away.",
    )
