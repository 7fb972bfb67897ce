"""The channel: what Celery calls on a broker, translated to the fetcher, the store and the broadcasts."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from amqp.protocol import queue_declare_ok_t
from kombu.compression import decompress
from kombu.transport import virtual
from kombu.transport.virtual.base import Message as VirtualMessage

from bridge.broker import messages, replies
from bridge.broker.context import OPTION, BrokerContext
from bridge.broker.exchanges import EXCHANGE_TYPES
from bridge.broker.fanout import topic
from bridge.broker.qos import QoS
from bridge.errors import PushRefused
from bridge.sidekiq import keys
from bridge.sidekiq.api.actions import Actions
from bridge.sidekiq.api.entries import Place
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

#: Celery's event exchange (setting ``event_exchange``).
EVENTS = "celeryev"


class Channel(virtual.Channel):
    """One channel of a :class:`bridge.broker.transport.Transport`."""

    QoS = QoS
    Message = VirtualMessage
    do_restore = False
    supports_fanout = True
    exchange_types = EXCHANGE_TYPES

    connection: Any
    """The :class:`bridge.broker.transport.Transport`."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        self.context: BrokerContext = connection.client.transport_options[OPTION]
        super().__init__(connection, **kwargs)
        # Without this kombu believes that a dead broker is up.
        connection.ping()

    # -- consuming

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any
    ) -> None:
        """Consume from a job queue, a broadcast or a reply queue."""
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        if queue in self.connection.broadcasts:
            self.connection.listen(queue, *self.connection.broadcasts[queue])
        elif replies.is_reply_queue(queue):
            self.connection.await_replies(queue)
        else:
            self.connection.consume_jobs(queue, self, callback)

    def basic_cancel(self, consumer_tag: str) -> None:
        """Stop consuming."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is not None:
            self.connection.stop_listening(queue)

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Set how many jobs may be held at once."""
        super().basic_qos(prefetch_size, prefetch_count, apply_global)
        fetcher = self.context.fetcher()
        fetcher.in_flight.set_slots(prefetch_count)
        fetcher.wake()

    def message_to_python(self, raw_message: Any) -> Any:
        """A claimed job is a message already."""
        if isinstance(raw_message, messages.JobMessage):
            return raw_message
        return super().message_to_python(raw_message)

    def message_for(self, unit: UnitOfWork, task: str | None = None) -> messages.JobMessage:
        """The message for a claimed job, and for this task where it is chosen already."""
        task = task or self.context.route(unit.job, unit.delivery.recovered)
        native = task != messages.RUBY_TASK
        message = messages.from_unit(unit, self, task, native=native, show_args=self.context.show_args)
        if native:
            headers: dict[str, Any] = message.headers
            headers[messages.RULES_HEADER] = self.context.rules()
        return message

    # -- publishing

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        if replies.is_reply_queue(queue):
            replies.send(self.connection.redis, queue, message)
            return
        if "task" not in message["headers"]:
            raise PushRefused("this message does not name a task: push a job with app.send_task(...)")
        body = self.decode_body(message["body"], message["properties"].get("body_encoding"))
        if (compression := message["headers"].get("compression")) is not None:  # by task_compression
            body = decompress(body, compression)
        push = messages.to_push(queue, message, body, self.context.rules().timestamps, time.time())
        self.context.push(push, str(message["headers"]["task"]))

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        if "task" in message["headers"]:
            raise PushRefused(f"{message['headers']['task']}: a Sidekiq job runs once. Write queue='name'.")
        name = topic(self.context.database, exchange, routing_key)
        receivers = self.connection.publish(name, json.dumps(message).encode())
        if exchange == EVENTS:
            self.context.heard(receivers)

    # -- queues and exchanges

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        # The process that asked has declared its reply queue on its own connection: its name follows from the
        # key.
        if (reply := replies.queue_name(exchange, routing_key)) is not None:
            return [reply]
        found = list(super()._lookup(exchange, routing_key, default))
        if not found:  # kombu would drop the message
            raise PushRefused(
                f"exchange={exchange!r}, routing_key={routing_key!r} leads to no queue. Write queue='name'."
            )
        return found

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> Any:
        """Nothing to declare: a Sidekiq queue exists when it holds a job. It is counted where asked to."""
        if passive:
            return super().queue_declare(queue, passive, **kwargs)
        return queue_declare_ok_t(queue or "", 0, 0)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        if self.typeof(exchange).type in ("fanout", "topic"):
            self.connection.broadcasts[queue] = (exchange, routing_key or "")

    def _size(self, queue: str) -> int:
        return self.context.store().size(queue)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return True

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        """A reply queue or a mailbox leaves nothing behind; a job queue is never deleted from here."""

    def _purge(self, queue: str) -> int:
        if (wrong := self.context.purge_objection(queue)) is not None:
            raise self.context.refusal(wrong)
        actions = Actions(self.context.store(), lambda: self.context.rules().timestamps)
        return actions.delete_all(Place(keys.queue(queue)))
