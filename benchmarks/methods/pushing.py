"""Pushes jobs as Sidekiq's client does: SADD and LPUSH in one round trip, at random moments."""

from __future__ import annotations

import random
import socket
import time

from benchmarks.site import Site

#: Answers of both commands: two integers.
ANSWER_LINES = 2


class Pushing:
    """One producer with a socket of its own: a client library would take as much CPU as Redis."""

    def __init__(self, site: Site, key: str, template: str, mark: str) -> None:
        """``mark`` in the template becomes the number of the job."""
        queue, (before, _, after) = key.removeprefix("queue:"), template.partition(mark)
        assert mark not in after, "one place for the id"
        self._head = _words("SADD", "queues", queue) + b"*3\r\n" + _word("LPUSH") + _word(key)
        self._before, self._after = before.encode(), after.encode()
        pool = site.server.connection_pool.connection_kwargs
        self._socket = socket.create_connection((pool.get("host", "127.0.0.1"), pool["port"]))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_words("SELECT", str(pool.get("db") or 0)))
        self._socket.recv(64)
        self.pushed = 0

    def __enter__(self) -> Pushing:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def push(self) -> None:
        """One job, and Redis' answer."""
        self.pushed += 1
        job = self._before + b"%024x" % self.pushed + self._after
        self._socket.sendall(self._head + b"$%d\r\n%s\r\n" % (len(job), job))
        answer = b""
        while answer.count(b"\n") < ANSWER_LINES:
            answer += self._socket.recv(4096)
        if b"-" in answer:
            raise RuntimeError(f"Redis refused a push: {' '.join(answer.decode().split())}")

    def at_random(self, seconds: float, rate: float, chance: random.Random) -> None:
        """Push for that time, ``rate`` jobs a second on average."""
        due = time.monotonic()
        end = due + seconds
        while (due := due + chance.expovariate(rate)) < end:
            if (pause := due - time.monotonic()) > 0:
                time.sleep(pause)
            self.push()
        time.sleep(max(0.0, end - time.monotonic()))


def _words(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(map(_word, words))


def _word(text: str) -> bytes:
    data = text.encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)
