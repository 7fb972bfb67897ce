"""The transport: waits for jobs, broadcasts and replies, and hands them to Celery's callbacks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import redis
from kombu.transport import virtual

from bridge import errors, event_loop
from bridge.broker.channel import Channel as JobChannel
from bridge.broker.context import OPTION, BrokerContext
from bridge.broker.fanout import Fanout
from bridge.broker.poller import Poller
from bridge.broker.replies import ReplyBox
from bridge.event_loop import EventLoop
from bridge.redis.outages import outages
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

#: How long a wait lasts at most: Celery's loop looks for a shutdown between waits.
LONGEST_WAIT_SECONDS = 1.0


class Transport(virtual.Transport):
    """kombu's virtual transport on Sidekiq's Redis.

    ``driver_type`` is not "redis": mingle and gossip, which Sidekiq's Redis has no use for, start for that
    name by themselves.
    """

    Channel = JobChannel
    driver_type = "sidekiq"
    driver_name = "sidekiq-bridge"
    default_port = 6379
    implements = virtual.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset(["direct", "topic", "fanout"]), heartbeats=False
    )
    connection_errors = (*virtual.Transport.connection_errors, errors.StoreUnavailable)
    recoverable_connection_errors = (errors.StoreUnavailable,)
    recoverable_channel_errors = ()

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.context: BrokerContext = client.transport_options[OPTION]
        self._redis: redis.Redis | None = None
        self._event_loop: EventLoop | None = None
        self._fanout: Fanout | None = None
        self._replies: dict[str, ReplyBox] = {}
        self._poller: Poller | None = None
        self._fetcher: Fetcher | None = None
        """The holder of this process's jobs, once jobs are consumed here."""
        self._inbox: list[tuple[str, dict[str, Any]]] = []
        self._watched: Any = None
        self.broadcasts: dict[str, tuple[str, str]] = {}
        """Exchange and routing key of each queue of broadcasts. Kombu binds a queue once for a connection;
        Celery's mailbox consumes it again on a new channel after a malformed command."""

    # -- the connection

    def driver_version(self) -> str:
        """What ``celery report`` shows beside ``driver_name``."""
        return self.context.version

    @property
    def redis(self) -> redis.Redis:
        """The client of this connection, made at first use."""
        if self._redis is None:
            self._redis = self.context.client()
        return self._redis

    @property
    def event_loop(self) -> EventLoop:
        """The event loop of the thread that first waits here; a connection that only publishes needs none."""
        if self._event_loop is None:
            self._event_loop = event_loop.current()
        return self._event_loop

    def ping(self) -> None:
        """Raise StoreUnavailable when Redis does not answer."""
        with outages():
            self.redis.ping()

    def close_connection(self, connection: Any) -> None:
        """Close everything but the fetcher, which lives as long as the process."""
        super().close_connection(connection)
        self._unwatch_fanout()
        for box in self._replies.values():
            self.event_loop.unwatch(box.socket)
        for part in (self._poller, self._fanout, *self._replies.values(), self._redis):
            if part is not None:
                part.close()
        self._poller = self._fetcher = self._fanout = self._event_loop = self._redis = None
        self._replies.clear()

    def publish(self, topic: str, message: bytes) -> int:
        """Broadcast. Returns how many received it."""
        with outages():
            return int(self.redis.publish(topic, message))

    # -- what is consumed

    def consume_jobs(self, queue: str, channel: JobChannel, callback: Callable[[Any], None]) -> None:
        """Take jobs from this queue too."""
        self._fetcher = fetcher = self.context.fetcher()
        ahead = queue in self.context.ahead
        fetcher.order.add(queue, self.context.weights.get(queue, 0), ahead=ahead)
        if self._poller is None:

            def deliver(unit: UnitOfWork) -> None:
                callback(channel.message_for(unit))

            self._poller = Poller(self.context, fetcher, self.event_loop, self.redis, channel, deliver)
        self._poller.attend()
        self.event_loop.wake()

    def listen(self, queue: str, exchange: str, routing_key: str) -> None:
        """Receive the broadcasts of an exchange."""
        if self._fanout is None:
            self._fanout = Fanout(self.redis, self.context.database)
        with outages():
            self._unwatch_fanout()
            self._fanout.subscribe(queue, exchange, routing_key)
        self._watch_fanout()

    def await_replies(self, queue: str) -> None:
        """Receive replies to this process's commands."""
        if queue not in self._replies:
            with outages():
                box = self._replies[queue] = ReplyBox(self.redis, queue)
            self.event_loop.watch(box.socket, lambda: self._collect_reply(box))

    def stop_listening(self, queue: str) -> None:
        """Consume no more from this queue, whatever its kind."""
        box = self._replies.pop(queue, None)
        if box is not None:
            self.event_loop.unwatch(box.socket)
            box.close()
        elif self._fanout is not None and self._fanout.carries(queue):
            self._fanout.unsubscribe(queue)
            self._watch_fanout()
        elif self._poller is not None and self._fetcher is not None:
            self._fetcher.order.remove(queue)
            if not self._fetcher.order.names:
                # Celery may not call drain_events from now on: jobs that end settle themselves.
                self._poller.detach()

    # -- the loop

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver what has come, or wait for it. Raises TimeoutError where nothing came in ``timeout`` s."""
        deadline = time.monotonic() + timeout if timeout is not None else None
        while not self._deliver_inbox() and not self._turn():
            wait = LONGEST_WAIT_SECONDS if deadline is None else deadline - time.monotonic()
            # At a shutdown Celery's loop goes round once more before it heeds the signal: without a wait.
            is_leaving = self._fetcher is not None and self._fetcher.leaving
            if wait <= 0 or is_leaving or self._wait(min(wait, LONGEST_WAIT_SECONDS)):
                raise TimeoutError

    def _turn(self) -> bool:
        return self._poller is not None and self._poller.turn() > 0

    def _wait(self, seconds: float) -> bool:
        """Returns whether Celery's loop should look at once for what a signal wants of it."""
        if self._poller is not None:
            seconds = min(seconds, self._poller.wait_seconds)
        if self._watched is None and self._fanout is not None:
            self._watch_fanout()
        return self.event_loop.wait(seconds)

    def _deliver_inbox(self) -> bool:
        inbox, self._inbox = self._inbox, []
        for queue, message in inbox:
            if self._callbacks and queue in self._callbacks:
                self._deliver_message(message, queue)
        return bool(inbox)

    def _deliver_message(self, message: dict[str, Any], queue: str) -> None:
        try:
            self._deliver(message, queue)
        except (KeyError, TypeError, ValueError, AttributeError):
            # Any client of this Redis could end the worker with a JSON value that is not a message.
            logger.exception("ignored a broadcast that is not a message, for %s", queue)

    def _watch_fanout(self) -> None:
        # The socket changes where the link is cut, and where it is mended: until then each wait tries.
        sock = self._fanout.socket() if self._fanout is not None else None
        if sock is not self._watched:
            self._unwatch_fanout()
            if sock is not None:
                self.event_loop.watch(sock, self._collect_broadcasts)
            self._watched = sock

    def _unwatch_fanout(self) -> None:
        if self._watched is not None:
            self.event_loop.unwatch(self._watched)
        self._watched = None

    def _collect_broadcasts(self) -> None:
        if self._fanout is not None:
            self._inbox += self._fanout.receive()
            self._watch_fanout()

    def _collect_reply(self, box: ReplyBox) -> None:
        with outages():
            message = box.receive()
        if message is not None:
            self._inbox.append((box.queue, message))
