"""A long job runs once, whatever becomes of the connections meanwhile: none has to last as long as it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_for

#: A stream would last for ever and a long poll 25 s: all are cut far more often than that.
JOB_SECONDS = 40
CUT_EVERY_SECONDS = 2.0
#: Longer than a worker asks for a lost reply (10 s): the job is given back, and found again where it runs.
DARK_SECONDS = 15.0


class Cable:
    """A Unix socket that leads to another one, and can be cut."""

    def __init__(self, path: Path, target: Path) -> None:
        self._target = str(target)
        self._ends: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self.dark = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """End every connection; gives how many there were."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            if self.dark:
                raise ConnectionResetError
            server.connect(self._target)
        except OSError:
            client.close()
            return
        self._ends += [client, server]
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 16):
            sink.sendall(chunk)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cable(bare_stage: Stage) -> Iterator[Cable]:
    """Between the workers and the sidecar, whose own address they never see."""
    sidecar = bare_stage.start_sidecar()
    folder = bare_stage.directory / "cable"
    folder.mkdir()
    made = Cable(folder / sidecar.socket.name, sidecar.socket)
    sidecar.url = f"unix://{folder / sidecar.socket.name}"
    yield made
    made.close()


@pytest.fixture
def workers(bare_stage: Stage, cable: Cable) -> Iterator[None]:
    """One that uses streams, and one that uses single requests."""
    made = [
        bare_stage.make_worker("-Q", "streams", name="streams"),
        bare_stage.make_worker("-Q", "polls", "-P", "threads", name="polls"),
    ]
    yield
    for each in made:
        each.stop()


def cut_until_done(stage: Stage, cable: Cable, jids: list[str]) -> int:
    """Cut every few seconds until the jobs have ended. Gives how many connections that took."""
    cuts = 0
    while not all(stage.ledger.count("done", jid) for jid in jids):
        cuts += cable.cut()
        time.sleep(CUT_EVERY_SECONDS)
    return cuts


@pytest.mark.usefixtures("workers")
def test_a_long_job_runs_once_while_its_connections_are_cut(bare_stage: Stage, cable: Cable) -> None:
    stage = bare_stage

    # Given a long job of each worker
    jids = [stage.ruby.push("SleepJob", JOB_SECONDS, queue=queue) for queue in ("streams", "polls")]
    for jid in jids:
        stage.ledger.wait_for("started", jid)

    # When every connection is cut every two seconds, and once for longer than anybody asks again
    cable.dark = True
    cable.cut()
    time.sleep(DARK_SECONDS)
    cable.dark = False
    cuts = cut_until_done(stage, cable, jids)

    # Then each ran once, and was settled once
    stage.wait_counters(2, 0)
    stage.wait_idle()
    assert cuts > 5
    assert [stage.ledger.events(jid) for jid in jids] == [["started", "done"]] * 2
    wait_for(lambda: not stage.redis.exists("retry", "dead", "queue:streams", "queue:polls"), "empty sets")
