"""What Sidekiq has no place for is refused before anything is sent; no Redis is there in these tests."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chain, chord

from bridge.celery import Bridge, make_app
from bridge.errors import PushRefused
from bridge.settings import load as load_settings


@pytest.fixture
def app() -> Bridge:
    return make_app(load_settings({"BRIDGE_REDIS_URL": "redis://127.0.0.1:1/0"}))


def job(app: Bridge, number: int = 1) -> Any:
    return app.signature("HardJob", args=[number], immutable=True)


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("link", [{"task": "OtherJob"}], "push the next one itself"),
        ("expires", 10, "check the age"),
        ("expires", 0, "check the age"),
        ("priority", 3, "the order of -Q"),
        ("priority", 0, "the order of -Q"),
        ("group_id", "g", "one by one"),
    ],
)
def test_an_option_without_a_place_in_sidekiq_is_refused_with_advice(
    app: Bridge, option: str, value: Any, advice: str
) -> None:
    with pytest.raises(PushRefused, match=advice):
        app.send_task("HardJob", args=[1], **{option: value})


def test_a_chain_is_refused(app: Bridge) -> None:
    with pytest.raises(PushRefused, match="chain"):
        chain(job(app, 1), job(app, 2), app=app).apply_async()


def test_a_chord_is_refused_by_celery_before_anything_is_sent(app: Bridge) -> None:
    with pytest.raises(NotImplementedError, match="result backend"):
        chord([job(app, 1), job(app, 2)], job(app, 3), app=app).apply_async()


def test_a_link_of_a_signature_is_refused(app: Bridge) -> None:
    with pytest.raises(PushRefused, match="link"):
        job(app).apply_async(link=job(app))
