"""Celery on its stock Redis transport."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu import Connection

from benchmarks.loads import ID, Load
from benchmarks.peers.base import Peer, Setup, Start
from benchmarks.processes import PYTHON_BIN
from benchmarks.site import Site

QUEUE = "celery"
ASK_SECONDS = 10.0


def message(task: str, args: Sequence[Any], message_id: str) -> str:
    """A message as Celery itself writes it: published into memory, and read there."""
    with Celery("captured", broker="memory://", set_as_current=False) as app, Connection("memory://") as link:
        app.send_task(task, args=list(args), task_id=message_id, connection=link, queue="captured")
        channel: Any = link.default_channel
        raw = channel._get("captured")
    raw["properties"]["delivery_tag"] = message_id
    raw["properties"]["delivery_info"] = {"exchange": "", "routing_key": QUEUE}
    return json.dumps(raw)


class StockCelery(Peer):
    """``pool`` is one of Celery's."""

    noop_rate = 600.0

    def __init__(self, name: str, pool: str) -> None:
        super().__init__(name)
        self.pool = pool
        self.cores = 2 if pool == "prefork" else 1

    def starts(self, site: Site, setup: Setup) -> list[Start]:
        """One worker; its BRPOP is the sign that it consumes."""
        command = [
            str(PYTHON_BIN / "celery"),
            "-A",
            "benchmarks.apps.stock",
            "worker",
            "-l",
            "CRITICAL",
            "-P",
            self.pool,
        ]
        command += ["-c", str(setup.concurrency), "-n", "stock@bench"]
        command += ["--without-mingle", "--without-gossip", "--without-heartbeat"]
        env = {"BENCH_REDIS_URL": site.url, "BENCH_PROBES": str(site.probe_file)}
        return [Start("celery", command, env, lambda: _consumes(site))]

    def template(self, load: Load, queue: str) -> tuple[str, str]:
        """Celery's default queue, whatever the queue is called elsewhere."""
        return QUEUE, message(load.kind, load.args, ID)

    def probe(self, args: Sequence[Any], jid: str, queue: str = "default") -> tuple[str, str]:
        """Build one message, with the arguments in its body as base64."""
        raw = json.loads(_probe_message())
        body = json.loads(base64.b64decode(raw["body"]))
        raw["body"] = base64.b64encode(json.dumps([list(args), *body[1:]]).encode()).decode()
        return QUEUE, json.dumps(raw).replace(ID, jid)

    def left(self, site: Site, setup: Setup) -> int:
        """It says which of its jobs have not ended."""
        with site.server.pipeline(transaction=False) as pipeline:
            pipeline.llen(QUEUE)
            pipeline.hlen("unacked")
            return sum(pipeline.execute())

    def executed_so_far(self, site: Site) -> int | None:
        """Its own count."""
        with Celery("asked", broker=site.url, set_as_current=False) as app:
            stats = app.control.inspect(timeout=ASK_SECONDS, limit=1).stats() or {}
        return sum(sum(worker["total"].values()) for worker in stats.values())


@functools.cache
def _probe_message() -> str:
    return message("probe", (0, 0), ID)


def _consumes(site: Site) -> bool:
    return any(client["cmd"] == "brpop" for client in site.server.client_list())
