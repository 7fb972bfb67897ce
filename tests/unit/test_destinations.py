from __future__ import annotations

from typing import Any

import pytest
from kombu import Exchange, Queue
from kombu.common import Broadcast

from bridge.broker import destinations
from bridge.errors import PushRefused

MEDIA = Exchange("media", "direct")
FEEDS = Exchange("feeds", "topic")
DECLARED = [
    Queue("default", Exchange("default"), routing_key="default"),
    Queue("videos", MEDIA, routing_key="media.video"),
    Queue("images", MEDIA, routing_key="media.image"),
    Queue("imports", FEEDS, routing_key="feed.#"),
    Queue("urgent", FEEDS, routing_key="*.urgent"),
    Broadcast("all", unique=False),
]
DEFAULT = DECLARED[0]


def queue_of(exchange: Any = None, key: str | None = None, queue: Any = DEFAULT, named: bool = False) -> str:
    return destinations.queue_of("HardJob", queue, exchange, key, DECLARED, named=named)


def test_a_push_that_names_nothing_goes_to_the_default_queue() -> None:
    assert queue_of() == "default"


@pytest.mark.parametrize(
    ("exchange", "key", "queue"),
    [
        ("media", "media.video", "videos"),
        (MEDIA, "media.image", "images"),
        ("feeds", "feed.import.daily", "imports"),
        ("feeds", "mail.urgent", "urgent"),
        ("", "low", "low"),
        (None, "media.video", "videos"),
        (None, "default", "default"),
    ],
)
def test_an_exchange_and_a_key_lead_to_the_queue_that_is_bound(exchange: Any, key: str, queue: str) -> None:
    # An id was returned, and nothing was written.
    assert queue_of(exchange, key) == queue


def test_a_queue_that_is_named_counts_before_the_key_of_its_exchange() -> None:
    assert queue_of(None, "feed.import", queue=DECLARED[1], named=True) == "videos"


def test_bindings_beside_the_first_count_too() -> None:
    many = Queue("many", bindings=[Queue("", MEDIA, routing_key="a"), Queue("", MEDIA, routing_key="b")])
    assert destinations.queue_of("HardJob", DEFAULT, "media", "b", [many], named=False) == "many"


@pytest.mark.parametrize(
    ("exchange", "key", "said"),
    [
        ("media", "media.audio", "no declared queue"),
        ("nowhere", "media.video", "no declared queue"),
        ("media", None, "more than one queue"),
        ("feeds", "feed.urgent", "more than one queue"),
        ("all", "", "a Sidekiq job is in one"),
        (None, "nothing", "no declared queue"),
    ],
)
def test_what_leads_to_no_queue_or_to_several_is_refused(exchange: Any, key: str | None, said: str) -> None:
    with pytest.raises(PushRefused, match=said):
        queue_of(exchange, key)


def test_a_broadcast_is_refused() -> None:
    with pytest.raises(PushRefused, match="a Sidekiq job is in one"):
        queue_of(queue=DECLARED[-1], named=True)
