"""A real sidecar behind TLS with client certificates, all of them from a private CA."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import ssl
from pathlib import Path

from cryptography import x509

from tests.support.certificates import Authority
from tests.support.processes import ROOT, Process
from tests.support.sidecar_process import JOBS
from tests.support.stage import Stage


class TlsSidecar:
    """Two Puma workers on one address of this machine; all files lie in ``directory``."""

    def __init__(self, stage: Stage, directory: Path, host: str = "127.0.0.1", jobs: Path = JOBS) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        server, self.client = self.authority.issue("server", host=host), self.authority.issue("worker")
        self.secrets = {side: directory / f"{side}.secret" for side in ("sidecar", "worker")}
        for path in self.secrets.values():
            path.write_text("old\n")
        self.port = consecutive_ports(4)
        # As behind a firewall: one port is open. The ports beside it belong to servers that never answer.
        self.neighbours = [socket.create_server((host, self.port + step)) for step in (1, 2, 3)]
        self.url = f"https://{host}:{self.port}"
        command = ["ruby", ROOT / "sidecar/bin/sidecar", "--require", jobs]
        command += ["--bind", f"ssl://{host}:{self.port}", "--workers", "2", "--threads", "5"]
        command += ["--tls-cert", server.cert, "--tls-key", server.key, "--tls-ca", self.authority.cert]
        command += ["--secret-file", self.secrets["sidecar"]]
        env = {"REDIS_URL": stage.redis_url, "TEST_LEDGER": str(stage.ledger.path)}
        self.process = Process("sidecar-tls", command, directory, env=env)
        self.process.wait_ready(lambda: "Sidecar ready on" in self.process.log, 40)

    @property
    def worker_env(self) -> dict[str, str]:
        """What a worker needs to speak to it."""
        return {
            "BRIDGE_SIDECAR_URL": self.url,
            "BRIDGE_SIDECAR_CA": str(self.authority.cert),
            "BRIDGE_SIDECAR_CLIENT_CERT": str(self.client.cert),
            "BRIDGE_SIDECAR_CLIENT_KEY": str(self.client.key),
            "BRIDGE_SIDECAR_SECRET_FILE": str(self.secrets["worker"]),
        }

    def stop(self) -> None:
        self.process.stop()
        for neighbour in self.neighbours:
            neighbour.close()

    def replace_puma_workers(self) -> None:
        """Have them read their certificate and secrets anew."""
        self.process.signal(signal.SIGHUP)

    def has_replaced(self, times: int) -> bool:
        """Whether all of them were replaced so often."""
        return self.process.log.count("Rolling restart finished") == times

    def served_serial(self) -> int:
        """Serial number of the certificate that a Puma worker shows now."""
        tls = ssl.create_default_context(cafile=str(self.authority.cert))
        tls.load_cert_chain(self.client.cert, self.client.key)
        with (
            socket.create_connection(("127.0.0.1", self.port), 5) as raw,
            tls.wrap_socket(raw, server_hostname="127.0.0.1") as found,
        ):
            encoded = found.getpeercert(binary_form=True)
        assert encoded
        return x509.load_der_x509_certificate(encoded).serial_number


def consecutive_ports(count: int) -> int:
    """The first of so many free ports in a row, below those that the system gives to clients."""
    for first in random.sample(range(20_000, 32_000), 50):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")
