"""How a delivery is written into requests, and a refusal read from replies."""

from __future__ import annotations

import json
from urllib.parse import quote

from bridge.sidecar.http import Reply
from bridge.sidekiq.job import SidekiqJob
from bridge.sidekiq.unit_of_work import Delivery

#: How long a job may hold one connection before it is asked for again on a fresh request.
WAIT_MS = 25_000


def execute_headers(delivery: Delivery) -> list[tuple[str, str]]:
    job = SidekiqJob.parse(delivery.payload)
    count = job.retry_count
    return [
        ("X-Bridge-Queue", quote(delivery.queue, safe="")),
        ("X-Bridge-Attempt", str(1 if count is None else count + 2)),
        ("X-Bridge-Delivery", delivery.name),
        ("X-Bridge-Claimed-At", str(delivery.claimed_at_ms)),
        ("X-Bridge-Recovered", str(delivery.recovered)),
        ("X-Bridge-Wait-Ms", str(WAIT_MS)),
        ("X-Bridge-Correlation-Id", _header_text(job.jid or delivery.name)),
    ]


def _header_text(value: str) -> str:
    """A value that cannot break out of its header line."""
    return quote(value, safe="!#$&'()*+,/:;=?@[]~ ")


def path_of(delivery: Delivery) -> str:
    return f"/jobs/{quote(delivery.identity, safe=':')}/{delivery.token}"


def error_of(reply: Reply) -> tuple[str, str]:
    try:
        body = json.loads(reply.body)
        return str(body["code"]), str(body["message"])
    except (ValueError, KeyError, TypeError):
        return "unknown", reply.body[:200].decode("utf-8", "replace")
