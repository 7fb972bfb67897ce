"""How exchanges deliver: broadcasts by PUBLISH, replies by key, everything else to a job queue."""

from __future__ import annotations

from typing import Any

from kombu.transport.virtual import exchange as virtual


class BroadcastExchange(virtual.FanoutExchange):
    """Fan-out and topic exchanges (remote control, events): published, never stored."""

    channel: Any

    def deliver(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> None:
        """Publish to the clients that listen at this moment."""
        self.channel._put_fanout(exchange, message, routing_key, **kwargs)


class TopicExchange(BroadcastExchange):
    """Celery's event exchange."""

    type = "topic"


EXCHANGE_TYPES: dict[str, type[virtual.ExchangeType]] = {
    "direct": virtual.DirectExchange,
    "topic": TopicExchange,
    "fanout": BroadcastExchange,
}
