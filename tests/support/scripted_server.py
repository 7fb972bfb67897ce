"""A sidecar that does what a real one cannot be made to do."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
import threading
from collections.abc import Callable
from typing import Any

from bridge.sidecar.address import Address
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import HealthProbe
from bridge.sidecar.signature import PROTOCOL, Signer
from bridge.sidecar.timeouts import Timeouts
from bridge.sidekiq.fetch.unit_of_work import Delivery

DELIVERY = Delivery("host:1:abc", 7, "default", b'{"class":"X","jid":"a","args":[]}', 5)
SECRET = b"secret"
BOOTS = ("b1" * 8, "b2" * 8)
DONE = {"status": "done", "jid": "a", "delivery": DELIVERY.name, "duration_ms": 1}


def signed(answer: bytes, request: bytes, secret: bytes = SECRET) -> bytes:
    """The answer with the signature that this request's reply must have; other bytes as they are."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    nonce = re.search(rb"X-Bridge-Nonce: (\w+)", request)
    status = re.match(rb"HTTP/1.1 (\d{3}) ", answer)
    if not (blank and nonce and status) or b"chunked" in head:
        return answer
    lines = sorted(
        line.replace(b": ", b":") for line in head.lower().split(b"\r\n") if line.startswith(b"x-bridge-")
    )
    parts = [b"bridge-v2-reply", nonce[1], status[1], *lines, hashlib.sha256(body).hexdigest().encode()]
    code = hmac.new(secret, b"\n".join(parts), hashlib.sha256).hexdigest()
    return head + f"\r\nX-Bridge-Signature: v2={code}".encode() + blank + body


def reply(status: int, body: Any = None, extra: str = "") -> bytes:
    data = json.dumps(body).encode() if body is not None else b""
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{extra}\r\n".encode() + data


class ScriptedServer:
    """Answers each request but /health with the next of its lines; ``CUT`` closes the connection instead."""

    CUT = b""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answers: list[bytes] = []
        self.requests: list[bytes] = []
        self.health: Any = None
        self.probes: list[bytes] = []
        self.sign: Callable[[bytes, bytes], bytes] = signed
        """What is done to each answer, given the request."""
        self.misdirected = 0
        self.misdirection = ""
        """Further headers of the reply to who is misdirected."""
        self.clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.clients.append(client)
        with client:
            while request := _read_request(client):
                answer = self._answer(request)
                if not answer:
                    return
                answer = self.sign(answer, request)
                client.sendall(answer)
                if b"421 X\r\n" in answer[:20] and b"Connection: close" in answer:
                    return
                if b"chunk" in answer[:60] or b"Content-Length: 999" in answer:
                    return

    def _answer(self, request: bytes) -> bytes:
        if request.startswith(b"GET /health"):
            self.probes.append(request)
            if self.misdirected:
                self.misdirected -= 1
                return reply(
                    421, {"code": "misdirected", "message": "m", "boot": BOOTS[1]}, self.misdirection
                )
            return reply(200, self._healthy() if self.health is None else self.health)
        self.requests.append(request)
        return self.answers.pop(0) if self.answers else self.CUT

    def _healthy(self) -> dict[str, Any]:
        worker = {"url": self.url, "boot": BOOTS[0], "slots": 2, "busy": 0}
        dead = {"max_jobs": 10, "timeout_seconds": 100}
        told = {"protocol": PROTOCOL, "status": "ready", "sidekiq": "8.1.0", "max_retries": 25}
        return {**told, "dead": dead, "workers": [worker]}


def _read_request(client: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = client.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0][15:]) if lengths else 0
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


def client_of(server: ScriptedServer) -> SidecarClient:
    """An impatient client, with a secret."""
    fleet = Fleet([Address.parse(server.url)], HealthProbe(Signer(SECRET), 2.0))
    return SidecarClient(fleet, Signer(SECRET), Timeouts(connect=1.0, full=0.5, repeat=1.0))
