"""A naive bridge: a loop pops jobs and gives them to Celery, whose task posts them to the sidecar."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from typing import Any

import redis
import requests
from celery import Celery
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

REDIS_URL = os.environ["BENCH_REDIS_URL"]
SIDECAR = os.environ["BENCH_SIDECAR"]

app = Celery("naive", broker=REDIS_URL)
app.conf.update(task_ignore_result=True, worker_send_task_events=False)

server = redis.Redis.from_url(REDIS_URL)
tokens = itertools.count()
local = threading.local()
threads = itertools.count()


@app.task(name="perform")
def perform(payload: str) -> None:
    """Post one job, and count it as Sidekiq would."""
    session, boot = _session()
    headers = {"X-Bridge-Protocol": "2", "X-Bridge-Boot": boot, "X-Bridge-Queue": "default"}
    headers |= {"X-Bridge-Delivery": f"naive:{os.getpid()}:000000000000/{next(tokens)}"}
    headers |= {"X-Bridge-Claimed-At": str(int(time.time() * 1000)), "X-Bridge-Attempt": "1"}
    reply = session.post("http://sidecar/jobs/execute", data=payload.encode(), headers=headers, timeout=60)
    reply.raise_for_status()
    if reply.json()["status"] == "done":
        server.incr("stat:processed")


def _session() -> tuple[requests.Session, str]:
    """A session of this thread's own with one of the Puma workers."""
    if not hasattr(local, "found"):
        general = _on(SIDECAR)
        health = general.get("http://sidecar/health", headers={"X-Bridge-Protocol": "2"}).json()
        worker = health["workers"][next(threads) % len(health["workers"])]
        local.found = (_on(worker["url"].removeprefix("unix://")), worker["boot"])
    found: tuple[requests.Session, str] = local.found
    return found


class _Socket(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("sidecar")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class _Pool(HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("sidecar")
        self._path = path

    def _new_conn(self) -> _Socket:
        return _Socket(self._path)


class _Adapter(HTTPAdapter):
    """``requests`` knows no Unix sockets."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._pool = _Pool(path)

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        return self._pool


def _on(path: str) -> requests.Session:
    session = requests.Session()
    session.mount("http://sidecar", _Adapter(path))
    return session


def loop() -> None:
    """Pop, hand over, again."""
    while True:
        popped: Any = server.brpop(["queue:default"], timeout=1)
        if popped:
            perform.apply_async(args=(popped[1].decode(),))


if __name__ == "__main__":
    loop()
