"""Replies to remote control: short-lived lists under ``bridge:reply:``, one for each asking process."""

from __future__ import annotations

import json
import re
from typing import Any

import redis

from bridge.redis.client import own_connection
from bridge.redis.outages import outages
from bridge.sidekiq import keys

#: kombu's name for the exchange that carries replies, with Celery's ``control_exchange`` in it.
_EXCHANGE = re.compile(r"reply\..+\.pidbox")
#: The process that asked, and the exchange.
_QUEUE = re.compile(r".+\.reply\..+\.pidbox")
#: A reply that no client collects expires.
TTL_SECONDS = 60


def queue_name(exchange: str, routing_key: str) -> str | None:
    """The reply queue that kombu's mailbox makes for an asking process; None for another exchange."""
    return f"{routing_key}.{exchange}" if _EXCHANGE.fullmatch(exchange) else None


def is_reply_queue(queue: str) -> bool:
    """Whether a queue carries replies, and not jobs."""
    return _QUEUE.fullmatch(queue) is not None


def send(client: redis.Redis, queue: str, message: dict[str, Any]) -> None:
    """Leave a reply for the process that asked."""
    with outages():
        pipeline = client.pipeline(transaction=True)
        pipeline.rpush(keys.reply(queue), json.dumps(message))
        pipeline.expire(keys.reply(queue), TTL_SECONDS)
        pipeline.execute()


class ReplyBox:
    """Waits for the replies to this process, on a connection of its own."""

    def __init__(self, client: redis.Redis, queue: str) -> None:
        self.queue = queue
        self._connection = own_connection(client)
        self._connection.connect()
        self.socket: Any = self._connection._sock
        """The socket to wait on. Kept when the link is cut: the event loop must be able to name it."""
        self._arm()

    def receive(self) -> dict[str, Any] | None:
        """Read what came, and wait for the next."""
        answer = self._connection.read_response()
        self._arm()
        return json.loads(answer[1]) if answer else None

    def close(self) -> None:
        """Stop waiting."""
        self._connection.disconnect()

    def _arm(self) -> None:
        self._connection.send_command("BLPOP", keys.reply(self.queue), 30)
