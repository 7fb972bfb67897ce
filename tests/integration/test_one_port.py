"""A sidecar of two Puma workers behind a firewall that lets one port through, under another number."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bridge.sidecar.address import Address
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import HealthProbe
from bridge.sidecar.result import Status
from bridge.sidecar.signature import Signer
from bridge.sidecar.timeouts import Timeouts
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.payload import ruby_json
from tests.integration.proxy import Proxy
from tests.support.processes import ROOT, Process
from tests.support.sidecar_process import JOBS
from tests.support.stage import Stage
from tests.support.tls_sidecar import consecutive_ports

SECRET = "a secret of this test"


@dataclass
class Place:
    """The one way to the sidecar."""

    stage: Stage
    firewall: Proxy
    process: Process

    def client(self) -> SidecarClient:
        signer = Signer(SECRET.encode())
        fleet = Fleet(
            [Address.parse(f"http://127.0.0.1:{self.firewall.port}")], HealthProbe(signer, 5.0, lambda: None)
        )
        return SidecarClient(fleet, signer, Timeouts(full=5.0, repeat=5.0), lambda: None)


@pytest.fixture
def place(bare_stage: Stage, tmp_path: Path) -> Iterator[Place]:
    if not bare_stage.root.is_system:
        pytest.skip("the sidecar's files are outside the change-root")
    port = consecutive_ports(4)
    # A busy neighbour once ended the start: it was a Puma worker's own port.
    neighbours = [socket.create_server(("127.0.0.1", port + step)) for step in (1, 2, 3)]
    command = ["ruby", ROOT / "sidecar/bin/sidecar", "--require", JOBS, "--bind", f"tcp://127.0.0.1:{port}"]
    env = {"REDIS_URL": bare_stage.redis_url, "TEST_LEDGER": str(bare_stage.ledger.path)}
    process = Process(
        "sidecar-one-port",
        [*command, "--workers", "2", "--threads", "5"],
        tmp_path,
        env={**env, "BRIDGE_SIDECAR_SECRET": SECRET},
    )
    process.wait_ready(lambda: f"Sidecar ready on tcp://127.0.0.1:{port}, 2 workers" in process.log, 40)
    firewall = Proxy(port)
    yield Place(bare_stage, firewall, process)
    firewall.close()
    process.stop()
    for neighbour in neighbours:
        neighbour.close()


def delivery(token: int) -> Delivery:
    fields = {"class": "EchoJob", "args": [token], "jid": f"{token:024x}", "retry": True}
    return Delivery("one:1:port", token, "default", ruby_json.encode(fields), 1)


def test_each_puma_worker_is_reached_through_the_one_port(place: Place) -> None:
    """When jobs and streams go to each Puma worker, then each one answers for itself."""
    client = place.client()
    client.fleet.refresh()
    members = client.fleet.members
    assert len({member.worker.boot for member in members}) == 2

    for token, member in enumerate(members * 10):
        assert client._execute_at(member, delivery(token)).status is Status.DONE
    for member in members * 4:
        client.open_stream(member).socket.close()


@pytest.mark.parametrize("pool", ["bridge", "threads"])
def test_a_worker_runs_all_jobs_once_and_connects_nowhere_else(place: Place, pool: str) -> None:
    stage, port = place.stage, place.firewall.port
    worker = stage.start_worker(
        concurrency=10,
        env={
            "BRIDGE_POOL": pool,
            "BRIDGE_SIDECAR_URL": f"http://127.0.0.1:{port}",
            "BRIDGE_SIDECAR_SECRET": SECRET,
        },
    )

    jids = [stage.push_job({"class": "EchoJob", "args": [number]}) for number in range(300)]
    stage.wait_done(60)

    done = Counter(line["jid"] for line in stage.ledger.lines if line["event"] == "done")
    assert done == dict.fromkeys(jids, 1)
    ran_in = {line["pid"] for line in stage.ledger.lines}
    assert len(ran_in) == 2
    reached = {
        connection.raddr.port
        for connection in psutil.Process(worker.pid).net_connections("tcp")
        if connection.raddr
    }
    assert reached == {port, stage.server.port}
