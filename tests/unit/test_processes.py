"""What the suite itself starts and ends. A Redis that many tests shared was killed by one of them."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forks import begin_in_fork, status_of
from tests.support.processes import Process, free_port
from tests.support.waiting import wait_for
from tests.unit.test_reports import run_suite


@pytest.fixture
def ended(tmp_path: Path) -> Process:
    """A process that has ended, and was waited for."""
    process = Process("ended", ["sh", "-c", "exit 3"], tmp_path)
    assert process.wait() == 3
    process.kill()
    return process


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Process]:
    process = Process("stranger", ["sleep", "60"], tmp_path)
    yield process
    process.kill()


def test_the_pid_of_a_process_that_ended_is_nobody_elses_until_it_was_killed(tmp_path: Path) -> None:
    leader = Process("leader", ["sh", "-c", "sleep 60 & echo $!; exit 3"], tmp_path)
    assert leader.wait() == 3
    assert (leader.returncode, leader.is_alive) == (3, False)
    os.kill(leader.pid, 0)  # the number is still taken
    child = int(leader.log)

    leader.kill()

    with pytest.raises(ProcessLookupError):
        os.kill(leader.pid, 0)
    wait_for(lambda: not _lives(child), "what it has started to be ended with it")
    assert leader.returncode == 3


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_process_that_was_waited_for_signals_nobody_who_has_its_pid_now(
    ended: Process, stranger: Process
) -> None:
    """``kill`` went to the group of that number, whoever had it by then."""
    ended.popen.pid = stranger.pid

    ended.kill()
    ended.stop()
    with pytest.raises(ProcessLookupError):
        ended.signal(signal.SIGTERM)

    assert stranger.is_alive


def test_a_free_port_is_none_that_the_kernel_gives_to_a_client() -> None:
    """A connection had the port next to it, or took that of a Redis that was to start again."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    port = free_port(2)
    assert 10_000 <= port < port + 1 < first
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", port))
        other.bind(("127.0.0.1", port + 1))


def test_a_fork_of_the_tests_process_ends_neither_its_servers_nor_runs_its_tests(stranger: Process) -> None:
    """A child that raised went on through pytest beside its parent, and ended the servers of the session."""

    def ends_all() -> None:
        stranger.stop()
        raise RuntimeError("on purpose")

    assert status_of(begin_in_fork(ends_all)) == 99
    assert stranger.is_alive


def test_a_process_that_does_not_end_is_not_waited_for_longer_than_was_said(stranger: Process) -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"still runs after 0\.1 s"):
        stranger.wait(0.1)
    assert time.monotonic() - began >= 0.1


def test_the_death_of_a_shared_server_is_one_error_of_the_test_in_which_it_died(tmp_path: Path) -> None:
    """Each test after it filled hundreds of lines with "connection refused"."""
    said = run_suite(
        tmp_path,
        """
        import os, signal
        import pytest
        from tests.support import shared_servers
        from tests.support.processes import Process
        from tests.support.waiting import wait_for

        @pytest.fixture(scope="session")
        def server(tmp_path_factory):
            place = tmp_path_factory.mktemp("s")
            process = Process("server", ["sh", "-c", "echo last words; exec sleep 60"], place)
            wait_for(lambda: "last words" in process.log, "its words")
            shared_servers.share("server", process)
            yield process
            shared_servers.forget("server")
            process.stop()

        def test_before(server):
            pass

        def test_that_kills(server):
            os.kill(server.pid, signal.SIGKILL)
            wait_for(lambda: not server.is_alive, "its end")

        @pytest.mark.parametrize("number", range(5))
        def test_after(server, number):
            raise AssertionError("not reached")

        def test_without_it():
            pass
        """,
        plugins=("tests.support.reports", "tests.support.shared_servers"),
    )
    assert "2 passed" in said
    assert "1 failed" in said
    assert "5 errors" in said
    assert "not reached" not in said
    assert said.count("last words") == 1
    assert "share, was killed by SIGKILL, in test_inner.py::test_that_kills at the latest" in said
    assert said.count("the same error in a fixture as before") == 4
