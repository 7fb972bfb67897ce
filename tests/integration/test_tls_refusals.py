"""Wrong, foreign and expired certificates are refused, by both sides and whatever opens a connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge import errors
from bridge.sidecar.address import Address
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.credentials import Credentials, Files
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import HealthProbe
from bridge.sidecar.http import BadReply
from bridge.sidecar.result import Status
from bridge.sidecar.timeouts import Timeouts
from tests.integration.test_tls import SECRET, delivery
from tests.support.certificates import Authority, Pair
from tests.support.command import Bridge
from tests.support.processes import ROOT, Process
from tests.support.redis_server import RedisServer
from tests.support.sidecar_process import JOBS
from tests.support.tls_sidecar import consecutive_ports


@dataclass
class Place:
    """A private CA, another one, and a sidecar with mutual TLS for each server certificate."""

    authority: Authority
    stranger: Authority
    good: Pair
    ports: dict[str, int]

    def client(self, server: str, ca: Path, pair: Pair | None) -> SidecarClient:
        files = Files(None, ca, pair.cert if pair else None, pair.key if pair else None)
        shown = Credentials(SECRET.decode(), files, tls=True)
        probe = HealthProbe(shown.signer, 5.0, lambda: shown.tls)
        fleet = Fleet([Address.parse(f"https://127.0.0.1:{self.ports[server]}")], probe)
        return SidecarClient(fleet, shown.signer, Timeouts(full=2.0, repeat=2.0), lambda: shown.tls)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, redis_server: Any, ruby_root: Any) -> Iterator[Place]:
    if not ruby_root.is_system:
        pytest.skip("the certificates lie outside the change-root")
    folder = tmp_path_factory.mktemp("mutual")
    authority, stranger = Authority(folder), Authority(folder, "stranger")
    first = consecutive_ports(3)
    servers = {
        "good": authority.issue("good"),
        "expired": authority.issue("expired", expired=True),
        "elsewhere": authority.issue("elsewhere", host="127.0.0.2"),
    }
    ports = {name: first + number for number, name in enumerate(servers)}
    processes = [
        start(folder, redis_server.url_of(15), name, pair, ports[name], authority)
        for name, pair in servers.items()
    ]
    for process in processes:
        process.wait_ready(lambda process=process: "ready on" in process.log, 60)
    yield Place(authority, stranger, authority.issue("client"), ports)
    for process in processes:
        process.stop()


def start(folder: Path, redis_url: str, name: str, pair: Pair, port: int, authority: Authority) -> Process:
    command = ["ruby", ROOT / "sidecar/bin/sidecar", "--require", JOBS, "--bind", f"ssl://127.0.0.1:{port}"]
    command += ["--tls-cert", pair.cert, "--tls-key", pair.key, "--tls-ca", authority.cert]
    env = {"REDIS_URL": redis_url, "TEST_LEDGER": str(folder / "ledger")}
    return Process(f"sidecar-{name}", command, folder, env={**env, "BRIDGE_SIDECAR_SECRET": SECRET.decode()})


def test_with_the_right_certificates_a_job_runs(place: Place) -> None:
    client = place.client("good", place.authority.cert, place.good)
    assert client.execute(delivery()).status is Status.DONE


@pytest.mark.parametrize("server", ["expired", "elsewhere"])
def test_a_server_with_a_wrong_certificate_is_not_spoken_to(place: Place, server: str) -> None:
    with pytest.raises(errors.SidecarUnavailable, match="certificate verify failed"):
        place.client(server, place.authority.cert, place.good).execute(delivery())


def test_a_server_of_another_ca_is_not_spoken_to(place: Place) -> None:
    with pytest.raises(errors.SidecarUnavailable, match="certificate verify failed"):
        place.client("good", place.stranger.cert, place.good).execute(delivery())


@pytest.mark.parametrize("kind", ["none", "another CA's", "expired"])
def test_a_client_with_a_wrong_certificate_is_turned_away(place: Place, kind: str) -> None:
    pairs = {
        "none": None,
        "another CA's": place.stranger.issue("foreign"),
        "expired": place.authority.issue("late", expired=True),
    }
    client = place.client("good", place.authority.cert, pairs[kind])
    with pytest.raises(errors.SidecarUnavailable):
        client.execute(delivery())


def test_a_ca_that_was_taken_out_of_its_file_is_trusted_no_more(place: Place, tmp_path: Path) -> None:
    """It was loaded into the context at the start, and a second loading takes nothing away."""
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(place.authority.cert.read_bytes() + place.stranger.cert.read_bytes())
    shown = Credentials(SECRET.decode(), Files(None, bundle, place.good.cert, place.good.key), tls=True)
    probe = HealthProbe(shown.signer, 5.0, lambda: shown.tls)
    address = Address.parse(f"https://127.0.0.1:{place.ports['good']}")
    assert probe.ask(address).ready

    bundle.write_bytes(place.stranger.cert.read_bytes())
    assert shown.refresh()
    with pytest.raises(errors.SidecarUnavailable, match="certificate verify failed"):
        probe.ask(address)

    bundle.write_bytes(b"")
    assert not shown.refresh(), "a file that holds no certificate replaces none"
    bundle.write_bytes(place.authority.cert.read_bytes())
    assert shown.refresh()
    assert probe.ask(address).ready


def test_a_client_certificate_that_was_replaced_is_shown_from_then_on(place: Place, tmp_path: Path) -> None:
    foreign = place.stranger.issue("foreign")
    cert, key = tmp_path / "c.pem", tmp_path / "c.key"
    cert.write_bytes(foreign.cert.read_bytes())
    key.write_bytes(foreign.key.read_bytes())
    shown = Credentials(SECRET.decode(), Files(None, place.authority.cert, cert, key), tls=True)
    probe = HealthProbe(shown.signer, 5.0, lambda: shown.tls)
    address = Address.parse(f"https://127.0.0.1:{place.ports['good']}")
    with pytest.raises(errors.SidecarUnavailable):
        probe.ask(address)

    cert.write_bytes(place.good.cert.read_bytes())
    assert not shown.refresh(), "the key does not fit yet"
    key.write_bytes(place.good.key.read_bytes())
    assert shown.refresh()
    assert probe.ask(address).ready


@pytest.mark.parametrize(
    ("ca", "shown", "cure"),
    [("ca.pem", False, "BRIDGE_SIDECAR_CLIENT_CERT"), ("stranger.pem", True, "BRIDGE_SIDECAR_CA")],
)
def test_the_doctor_says_which_certificate_is_amiss(
    place: Place, redis_server: RedisServer, ca: str, shown: bool, cure: str
) -> None:
    settings = {
        "BRIDGE_REDIS_URL": redis_server.url_of(15),
        "BRIDGE_SIDECAR_URL": f"https://127.0.0.1:{place.ports['good']}",
        "BRIDGE_SIDECAR_SECRET": SECRET.decode(),
        "BRIDGE_SIDECAR_CA": str(place.good.cert.with_name(ca)),
    }
    if shown:
        settings["BRIDGE_SIDECAR_CLIENT_CERT"] = str(place.good.cert)
        settings["BRIDGE_SIDECAR_CLIENT_KEY"] = str(place.good.key)
    found = Bridge(settings)("doctor", "--json").json
    assert [cure in finding["cure"] for finding in found if finding["code"] == "sidecar-away"] == [True]


def test_a_stream_asks_for_the_certificate_as_well(place: Place) -> None:
    good = place.client("good", place.authority.cert, place.good)
    good.fleet.refresh()
    member = good.fleet.members[0]
    good.open_stream(member).socket.close()
    bad = place.client("good", place.authority.cert, place.stranger.issue("foreign"))
    with pytest.raises((OSError, BadReply)):
        bad.open_stream(member)
