"""A server that does what no real sidecar can be made to do: it lies, stops in the middle, or never stops."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

Lie = bytes
BOOT = "0123456789abcdef"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


#: What it sends instead of an outcome, before it closes the connection. None: a byte at a time, without end.
LIES: dict[str, bytes | None] = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 20",
    "half a body": HEAD + b'Content-Length: 90\r\n\r\n{"status":"done",',
    "too short a length": HEAD + b'Content-Length: 3\r\n\r\n{"status":"done"}',
    "no HTTP": b"\x16\x03\x01\x02\x00" * 40,
    "HTML": answer(200, b"<html>welcome to the proxy</html>"),
    "an error page": answer(500, b"<h1>We're sorry, but something went wrong</h1>"),
    "a bad gateway": answer(502, b"bad gateway"),
    "a redirect": answer(302, b"", "Location: http://127.0.0.1:1/"),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a list": answer(200, b"[1,2,3]"),
    "null": answer(200, b"null"),
    "no outcome": answer(200, b'{"status":"done"}'),
    "an unknown status": answer(200, b'{"status":"exploded","duration_ms":1}'),
    "a failure without reason": answer(200, b'{"status":"failed","duration_ms":1}'),
    "a failure with a delay that is none": answer(
        200,
        b'{"status":"failed","duration_ms":1,"error":{"class":"E","message":"m"},'
        b'"next":{"place":"retry","fields":{},"delay":"soon"}}',
    ),
    "NaN": answer(200, b'{"status":"done","duration_ms":NaN}'),
    "deep nesting": answer(200, b"[" * 100_000),
    "an absurd length": HEAD + b"Content-Length: 99999999999999\r\n\r\n{",
    "a negative length": HEAD + b"Content-Length: -5\r\n\r\n{}",
    "chunks of no size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "far too much": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"x" * 1_048_576 + b"\r\n",
    "a byte at a time": None,
}

#: What it sends on a stream instead of a reply.
FRAME_LIES: dict[str, bytes] = {
    "no frame": b"hello\n",
    "words": b"one two three\n",
    "a negative size": b"1 200 -1\n",
    "an absurd size": b"1 200 99999999999999\n",
    "another's number": b"424242 200 2\n{}",
    "half a frame": b'1 200 1000\n{"status":',
    "a line without end": b"1" * 10_000,
    "bytes": bytes(range(256)),
}


class LyingSidecar:
    """Answers ``/health`` truly, jobs with lies while ``lying``, else that they are done."""

    def __init__(self, path: Path, seed: int, *, streams: bool) -> None:
        self.url = f"unix://{path}"
        self.lying = True
        self.health_lie: dict[str, Any] = {}
        """Fields of the one Puma worker in /health that are not true."""
        self.asked = 0
        self.told: set[str] = set()
        self.truly_done: list[str] = []
        self._streams = streams
        self._chance = random.Random(seed)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(100)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            reader = client.makefile("rb")
            while request := self._read(reader):
                path, body, delivery = request
                if path == "/jobs/stream" and self._streams:
                    self._upgrade(client, reader)
                    return
                if not self._reply(client, path, body, delivery):
                    return

    def _read(self, reader: Any) -> tuple[str, bytes, str] | None:
        line = reader.readline()
        if not line:
            return None
        length, delivery = 0, ""
        while header := reader.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            if name.lower() == b"x-bridge-delivery":
                delivery = value.strip().decode()
        return line.split()[1].decode(), reader.read(length), delivery

    def _reply(self, client: socket.socket, path: str, body: bytes, delivery: str) -> bool:
        """Whether the connection lives on."""
        if path.startswith("/health"):
            client.sendall(answer(200, json.dumps(self._health()).encode()))
            return True
        if path != "/jobs/execute":
            client.sendall(answer(404, b'{"code":"not_found","message":"no"}'))
            return True
        if not self.lying:
            client.sendall(answer(200, self._truth(body, delivery)))
            return True
        self._lie(client)
        return False

    def _lie(self, client: socket.socket) -> None:
        name = self._chance.choice(sorted(LIES))
        self.told.add(name)
        lie = LIES[name]
        if lie is not None:
            client.sendall(lie)
            return
        for _ in range(2000):
            client.sendall(b"H")
            time.sleep(0.05)

    def _upgrade(self, client: socket.socket, reader: Any) -> None:
        head = (
            f"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: bridge-jobs\r\nX-Bridge-Boot: {BOOT}\r\n\r\n"
        )
        client.sendall(head.encode())
        while line := reader.readline():
            words = line.split()
            body = reader.read(int(words[2]))
            if self.lying and words[0] == b"E":
                name = self._chance.choice(sorted(FRAME_LIES))
                self.told.add(name)
                client.sendall(FRAME_LIES[name])
                continue
            text = self._truth(body, f"{words[3].decode()}/{words[4].decode()}") if words[0] == b"E" else b""
            client.sendall(b"%s 200 %d\n" % (words[1], len(text)) + text)

    def _truth(self, body: bytes, delivery: str) -> bytes:
        jid = json.loads(body)["jid"]
        self.truly_done.append(jid)
        outcome = {"status": "done", "jid": jid, "delivery": delivery, "duration_ms": 1.0}
        return json.dumps(outcome).encode()

    def _health(self) -> dict[str, Any]:
        self.asked += 1
        worker = {"url": self.url, "boot": BOOT, "slots": 20, "busy": 0, **self.health_lie}
        dead = {"max_jobs": 10_000, "timeout_seconds": 15_552_000}
        told = {"protocol": 2, "status": "ready", "sidekiq": "6.4.1", "max_retries": 25}
        return {**told, "dead": dead, "workers": [worker]}
