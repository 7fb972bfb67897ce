"""Celery's message layer: its table of queues and its router, for queues that are Sidekiq's lists."""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP, Queues
from kombu import Queue

from bridge.broker import destinations, push_policy
from bridge.broker.connection import Connection
from bridge.broker.destinations import is_broadcast
from bridge.errors import PushRefused
from bridge.sidekiq.payload import queue_names

#: Options that a route may add to a push. Celery reads the others before it asks for the route.
_ROUTABLE = (
    *("queue", "exchange", "exchange_type", "routing_key", "serializer", "delivery_mode", "declare"),
    *("retry", "retry_policy", "priority", "expires", "compression", "mandatory", "immediate"),
)


class QueueTable(Queues):
    """The queues by name. A worker reads each of them, and a push reaches each, whatever its exchange is.

    Celery would subscribe to a queue of a topic exchange instead of reading the list.
    """

    default_exchange: Any
    default_routing_key: str | None
    create_missing: bool
    _consume_from: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        self.declared: dict[str, Any] = {}
        """The queues as the user declared them: pushes by exchange and routing key ask these."""
        super().__init__(*args, **options)

    def _add(self, queue: Any) -> Any:
        if queue is self.get(queue.name):
            return queue  # a worker adds to what it reads a queue that is here
        self._complete(queue)
        self.declared[queue.name] = queue
        self[queue.name] = destinations.plain(queue)
        return self[queue.name]

    def _complete(self, queue: Any) -> None:
        """Fill in Celery's defaults, as its own table does."""
        if self.default_exchange and (queue.exchange is None or queue.exchange.name == ""):
            queue.exchange = self.default_exchange
        if not queue.routing_key:
            queue.routing_key = self.default_routing_key

    def leads_straight(self, name: str) -> bool:
        """Whether a push to this name needs no look at what the user declared."""
        declared = self.declared.get(name)
        return bool(self.create_missing) if declared is None else not is_broadcast(declared)

    @property
    def is_selected(self) -> bool:
        """Whether -Q or -X chose the queues of this worker."""
        return self._consume_from is not None

    def broadcasts(self, names: Any) -> list[str]:
        """Those of the names whose jobs every worker would get, as the user wrote them."""
        found = (self.declared.get(name) for name in names)
        return [each.alias or each.name for each in found if each is not None and is_broadcast(each)]


class StraightRouter:
    """A router of Celery's, whose answer becomes the name of one queue."""

    def __init__(self, router: Any, table: QueueTable, default: str) -> None:
        self._router = router
        self._table = table
        self._default = default

    def route(
        self, options: dict[str, Any], name: str, args: Any = (), kwargs: Any = None, task_type: Any = None
    ) -> dict[str, Any]:
        """Celery's answer, with a queue and without an exchange. Raises PushRefused."""
        named, headers = bool(options.get("queue")), options.pop("headers", None)
        given = {*options}
        found: dict[str, Any] = self._router.route(options, name, args, kwargs, task_type)
        self._check(name, {option: value for option, value in found.items() if option not in given})
        asked = found.get("queue") or self._table[self._default]
        declared = self._table.declared.get(asked.name, asked)
        queue = destinations.queue_of(
            name,
            declared,
            found.pop("exchange", None),
            found.pop("routing_key", None),
            self._table.declared.values(),
            named=named or asked.name != self._default,
        )
        if (wrong := queue_names.objection(queue)) is not None:
            raise PushRefused(f"{name}: {wrong}.")
        found.pop("exchange_type", None)
        return {**found, "queue": destinations.plain(Queue(queue)), "headers": headers}

    @staticmethod
    def _check(name: str, added: dict[str, Any]) -> None:
        """Judge what the route adds to a push. Raises PushRefused."""
        for option in added:
            if option not in _ROUTABLE:
                raise PushRefused(
                    f"{name}: a route in task_routes cannot carry {option}. Write it at the push."
                )
        push_policy.check(name, None, added)


class BridgeAMQP(AMQP):
    """Celery's message layer, on connections of this application alone."""

    Connection = Connection
    BrokerConnection = Connection
    queues_cls = QueueTable
    queues: Any

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.task_protocols: dict[int, Any] = {1: self.as_task_v2, 2: self.as_task_v2}

    def straight_router(self, router: Any = None) -> StraightRouter:
        """Celery's router, or the one of a push; its answers become names of queues."""
        return StraightRouter(router or self.router, self.queues, self.app.conf.task_default_queue)
