"""The client and a real sidecar over TLS with a private CA and a shared secret."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge import errors
from bridge.sidecar.address import Address
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import HealthProbe
from bridge.sidecar.result import Status
from bridge.sidecar.signature import Signer
from bridge.sidecar.timeouts import Timeouts
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.payload import ruby_json
from tests.support.processes import ROOT, Process
from tests.support.sidecar_process import JOBS

SECRET = b"a secret of this test"


def make_certificate(directory: Path, name: str) -> Path:
    """A certificate that is its own CA, for 127.0.0.1; the key lies beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.with_suffix(".key").write_bytes(secret)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def sidecar(folder: Path, redis_server: Any, ruby_root: Any) -> Iterator[tuple[str, Path]]:
    """Address and certificate of a sidecar that listens on ssl://."""
    if not ruby_root.is_system:
        pytest.skip("the certificate lies outside the change-root")
    certificate = make_certificate(folder, "sidecar")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["ruby", ROOT / "sidecar/bin/sidecar", "--require", JOBS, "--bind", f"ssl://127.0.0.1:{port}"]
    command += ["--tls-cert", certificate, "--tls-key", certificate.with_suffix(".key"), "--threads", "5"]
    env = {
        "BRIDGE_SIDECAR_SECRET": SECRET.decode(),
        "REDIS_URL": redis_server.url_of(15),
        "TEST_LEDGER": str(folder / "ledger"),
    }
    process = Process("sidecar", command, folder, env=env)
    process.wait_ready(lambda: "ready" in process.log, 40)
    yield f"https://127.0.0.1:{port}", certificate
    process.stop()


def client(url: str, ca: Path, secret: bytes | None = SECRET) -> SidecarClient:
    signer = Signer(secret)
    tls = ssl.create_default_context(cafile=str(ca))
    fleet = Fleet([Address.parse(url)], HealthProbe(signer, 5.0, lambda: tls))
    return SidecarClient(fleet, signer, Timeouts(full=2.0, repeat=2.0), lambda: tls)


def delivery(token: int = 1) -> Delivery:
    fields = {"class": "EchoJob", "args": [1], "jid": f"{time.time_ns():024x}", "retry": True}
    return Delivery(f"tls:1:{time.time_ns():x}", token, "default", ruby_json.encode(fields), 1)


def test_a_job_runs_over_tls_with_a_private_ca(sidecar: tuple[str, Path]) -> None:
    assert client(*sidecar).execute(delivery()).status is Status.DONE


def test_a_stream_opens_over_tls(sidecar: tuple[str, Path]) -> None:
    over_tls = client(*sidecar)
    over_tls.fleet.refresh()
    opened = over_tls.open_stream(over_tls.fleet.members[0])
    with opened.socket as stream:
        assert isinstance(stream, ssl.SSLSocket)
        assert opened.sending is not None, "its frames carry codes"


def test_a_sidecar_with_another_certificate_is_not_spoken_to(sidecar: tuple[str, Path], folder: Path) -> None:
    url, _ = sidecar
    with pytest.raises(errors.SidecarUnavailable, match="certificate verify failed"):
        client(url, make_certificate(folder, "other")).execute(delivery())


@pytest.mark.parametrize("secret", [b"another secret", None])
def test_without_the_secret_nothing_runs(sidecar: tuple[str, Path], secret: bytes | None) -> None:
    with pytest.raises(errors.SidecarRejected, match="BRIDGE_SIDECAR_SECRET"):
        client(*sidecar, secret).execute(delivery())
