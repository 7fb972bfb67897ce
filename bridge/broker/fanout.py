"""Broadcasts over PUBLISH and pattern subscriptions: Celery's events and remote control.

Topics are those of kombu's own Redis transport, so that tools which use it (Flower from another installation,
exporters of events) hear this worker too. Nothing is stored: no key is left in Sidekiq's Redis.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import redis

from bridge.redis import commands
from bridge.redis.outages import is_outage

logger = logging.getLogger(__name__)

MEND_SECONDS = 1.0


def topic(database: int, exchange: str, routing_key: str = "") -> str:
    """Channel name for an exchange and routing key; AMQP's ``#`` becomes a ``*``."""
    suffix = "/" + routing_key.replace("#", "*") if routing_key else ""
    return f"/{database}.{exchange}{suffix}"


class Fanout:
    """The subscriptions of one transport, on a connection of their own."""

    def __init__(self, client: redis.Redis, database: int) -> None:
        # Not ignore_subscribe_messages: None would then stand for "ignored" as well as for "nothing more",
        # and what
        # was read from the socket together with a confirmation would wait there for the next broadcast.
        self._pubsub = client.pubsub()
        self._database = database
        self._queues: dict[str, list[str]] = {}
        self._mend_at = 0.0
        self._refused = False

    def subscribe(self, queue: str, exchange: str, routing_key: str) -> None:
        """Deliver what is broadcast on the exchange under the key to ``queue``."""
        name = topic(self._database, exchange, routing_key)
        self._queues.setdefault(name, []).append(queue)
        self._pubsub.psubscribe(name)

    def carries(self, queue: str) -> bool:
        """Whether a queue is one of broadcasts."""
        return any(queue in queues for queues in self._queues.values())

    def unsubscribe(self, queue: str) -> None:
        """Deliver no more to ``queue``."""
        for name, queues in list(self._queues.items()):
            if queue in queues:
                queues.remove(queue)
            if not queues:
                del self._queues[name]
                self._pubsub.punsubscribe(name)

    def receive(self) -> list[tuple[str, dict[str, Any]]]:
        """The (queue, message) pairs that have arrived. A cut link loses what was sent meanwhile."""
        received: list[tuple[str, dict[str, Any]]] = []
        try:
            while (
                self._queues
                and not self._refused
                and (found := self._pubsub.get_message(timeout=0)) is not None
            ):
                received += self._deliveries(found)
        except (redis.RedisError, OSError) as error:
            if commands.is_forbidden(error):
                self._give_up(error)
                return []
            if not is_outage(error):
                raise
            if self._pubsub.connection:
                self._pubsub.connection.disconnect()
            logger.debug("broadcasts: %s", error)
        return received

    def socket(self) -> Any:
        """The socket to wait on; None while nothing is subscribed, or the link cannot be mended."""
        connection = self._pubsub.connection
        if connection is None or not self._queues or self._refused:
            return None
        if connection._sock is None:
            self._mend(connection)
        return connection._sock

    def _mend(self, connection: Any) -> None:
        """Connect and subscribe again, at most once a second: a closed socket is never readable."""
        if time.monotonic() < self._mend_at:
            return
        self._mend_at = time.monotonic() + MEND_SECONDS
        try:
            connection.connect()  # its callback subscribes to everything again
        except (redis.RedisError, OSError) as error:
            logger.debug("broadcasts: %s", error)

    def _give_up(self, error: BaseException) -> None:
        """Redis refuses subscriptions: the worker runs jobs, and hears no broadcast."""
        self._refused = True
        logger.warning(
            "Redis refuses PSUBSCRIBE (%s): this worker hears no remote control. Allow PUBLISH and "
            "PSUBSCRIBE, or set BRIDGE_REMOTE_CONTROL=false",
            error,
        )

    def close(self) -> None:
        """End all subscriptions."""
        self._queues.clear()
        self._pubsub.close()

    def _deliveries(self, found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        if found["type"] != "pmessage":
            return []
        try:
            message = json.loads(found["data"])
        except (ValueError, RecursionError):
            logger.warning("ignored a broadcast that is not JSON on %r", found["channel"])
            return []
        return [(queue, message) for queue in self._queues.get(found["pattern"].decode(), ())]
