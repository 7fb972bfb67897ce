"""What this project assumes of kombu. Each test says what breaks where its assumption does not hold."""

from __future__ import annotations

import inspect
from typing import Any

import kombu
import pytest
from kombu import pidbox
from kombu.connection import ConnectionPool, PooledConnection
from kombu.message import Message
from kombu.transport import virtual

from bridge.broker.channel import Channel
from bridge.broker.messages import from_unit
from bridge.broker.qos import QoS
from bridge.broker.transport import Transport
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.payload.job import SidekiqJob


def unit() -> UnitOfWork:
    payload = b'{"class":"Noop","jid":"abc","args":[1,"\xc3\xbc"]}'
    return UnitOfWork(Delivery("me", 7, "low", payload, 5), SidekiqJob.parse(payload))


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


CHANNEL = {
    "basic_consume": ["self", "queue", "no_ack", "callback", "consumer_tag", "kwargs"],
    "basic_cancel": ["self", "consumer_tag"],
    "basic_qos": ["self", "prefetch_size", "prefetch_count", "apply_global"],
    "message_to_python": ["self", "raw_message"],
    "queue_declare": ["self", "queue", "passive", "kwargs"],
    "_put": ["self", "queue", "message"],
    "_lookup": ["self", "exchange", "routing_key", "default"],
    "_size": ["self", "queue"],
    "_has_queue": ["self", "queue", "kwargs"],
    "_delete": ["self", "queue", "args", "kwargs"],
    "_purge": ["self", "queue"],
}


@pytest.mark.parametrize("name", CHANNEL)
def test_the_channels_methods_keep_their_signatures(name: str) -> None:
    """Celery calls them, or the base class does: a renamed one of ours would never be called."""
    assert parameters(getattr(virtual.Channel, name)) == CHANNEL[name]
    assert name in vars(Channel)


def test_a_binding_is_told_to_the_channel() -> None:
    """Broadcast queues are known by it."""
    assert "self._queue_bind(exchange, *meta)" in inspect.getsource(virtual.Channel.queue_bind)
    assert parameters(Channel._queue_bind) == ["self", "exchange", "routing_key", "pattern", "queue"]


@pytest.mark.parametrize("name", ["_tag_to_queue", "_consumers"])
def test_a_channel_knows_the_queues_of_its_consumers(name: str) -> None:
    """basic_cancel finds the queue of a tag there; else a cancelled queue would go on being claimed."""
    assert f"self.{name} = " in inspect.getsource(virtual.Channel.__init__)


def test_a_closed_channel_restores_nothing_when_told_so() -> None:
    """It would push jobs that are in flight a second time at each lost connection."""
    assert Channel.do_restore is False
    text = inspect.getsource(virtual.QoS.restore_unacked_once)
    assert "do_restore" in text


@pytest.mark.parametrize("name", ["can_consume", "append", "get", "ack", "reject"])
def test_the_quality_of_service_is_asked_by_these_names(name: str) -> None:
    """The ack of a message must come to the fetcher."""
    assert name in vars(QoS)
    theirs, ours = parameters(getattr(virtual.QoS, name)), parameters(getattr(QoS, name))
    assert theirs == ours


def test_an_ack_and_a_reject_of_a_message_come_to_the_quality_of_service() -> None:
    """Message.ack -> Channel.basic_ack -> QoS.ack."""
    assert "self.qos.ack(delivery_tag)" in inspect.getsource(virtual.Channel.basic_ack)
    assert "self.qos.reject(delivery_tag, requeue=requeue)" in inspect.getsource(virtual.Channel.basic_reject)
    assert "self.channel.basic_ack(self.delivery_tag" in inspect.getsource(Message.ack)


def test_a_failed_ack_is_swallowed() -> None:
    """Why settlements are remembered and repeated by the fetcher: Celery never hears of it."""
    text = inspect.getsource(Message.ack_log_error)
    assert "except BrokenPipeError" in text or "except errors" in text


def test_a_message_has_the_fields_that_a_claimed_job_is_given() -> None:
    """Celery reads id, task, headers and delivery tag from there."""
    wanted = {"body", "delivery_tag", "content_type", "content_encoding", "delivery_info", "properties"}
    assert wanted | {"headers", "channel"} <= set(parameters(Message.__init__))


def test_a_job_message_has_all_that_kombus_own_has() -> None:
    """It is made without kombu's constructor, which sets these; ack and reject read them."""
    theirs = Message(body="x", channel=None)
    ours = from_unit(unit(), None, "Noop", native=False, show_args=False)
    for name in (*(slot for slot in Message.__slots__ if slot != "__dict__"), "errors"):
        assert getattr(ours, name, "missing") != "missing", name
    assert ours._state == theirs._state
    assert not ours.errors


def test_the_body_of_a_job_message_is_never_decoded() -> None:
    """The arguments of a claimed job never become text on their way to the task."""
    message = from_unit(unit(), None, "Noop", native=True, show_args=False)
    args, kwargs, embed = message.payload
    assert (list(args), kwargs) == ([1, "ü"], {})
    assert embed["callbacks"] is None
    assert message.decode() is message.body


def test_the_transport_is_asked_by_these_names() -> None:
    """drain_events is the whole consuming; close_connection ends sockets."""
    assert "drain_events" in vars(virtual.Transport)
    assert parameters(virtual.Transport.close_connection) == ["self", "connection"]
    assert parameters(virtual.Transport._deliver) == ["self", "message", "queue"]
    assert "transport.drain_events(self.connection" in inspect.getsource(kombu.Connection.drain_events)


def test_a_transport_holds_callbacks_by_queue() -> None:
    """Broadcasts are delivered only where somebody consumes them."""
    assert "self.connection._callbacks[queue] = _callback" in inspect.getsource(virtual.Channel.basic_consume)


def test_an_exchange_type_is_a_class_with_a_channel_and_deliver() -> None:
    """Broadcasts go by exchange types of our own."""
    assert parameters(virtual.exchange.ExchangeType.__init__) == ["self", "channel"]
    deliver = virtual.exchange.FanoutExchange.deliver
    assert parameters(deliver)[:4] == ["self", "message", "exchange", "routing_key"]


def test_a_connection_takes_its_transport_from_one_method() -> None:
    """That is how our transport is bound to one application without a scheme of its own."""
    assert "get_transport_cls" in inspect.getsource(kombu.Connection.create_transport)
    assert kombu.Connection("redis://").as_uri().startswith("redis://")


def test_a_pool_makes_pooled_connections_in_new() -> None:
    """Else producers would speak the stock Redis transport to Sidekiq's lists."""
    assert "PooledConnection(self" in inspect.getsource(ConnectionPool.new)
    assert issubclass(PooledConnection, kombu.Connection)
    assert parameters(kombu.Connection._info) == ["self", "resolve"]
    assert "ConnectionPool(self, limit" in inspect.getsource(kombu.Connection.Pool)


def test_creating_a_transport_needs_no_server() -> None:
    """The guard looks at its class before anything is connected."""
    connection = kombu.Connection("redis://127.0.0.1:1//")
    assert connection.get_transport_cls() is not Transport


def test_the_reply_queue_of_a_mailbox_has_the_name_that_replies_go_to() -> None:
    """The worker that answers makes the name from the routing key alone."""
    from bridge.broker import replies

    # With control_exchange = "shop" no reply came: the name of the exchange was a constant.
    for namespace in ("celery", "shop"):
        mailbox = pidbox.Mailbox(namespace)
        name = mailbox.get_reply_queue().name
        assert replies.queue_name(mailbox.reply_exchange.name, mailbox.oid) == name
        assert replies.is_reply_queue(name)
    assert replies.queue_name("celery.pidbox", "x") is None
    assert not replies.is_reply_queue("reply.emails")
