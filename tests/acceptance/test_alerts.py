"""Planted incidents, seen by a real Prometheus with the rules of deploy/prometheus."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import prometheus
from tests.support.probes import port_of
from tests.support.processes import free_port
from tests.support.prometheus import Prometheus
from tests.support.stage import Stage
from tests.support.waiting import wait_for

pytestmark = [prometheus.needed, pytest.mark.timeout(400)]

#: As issue and documents promise.
MINUTE = 60.0


@pytest.fixture
def watched(bare_stage: Stage) -> Iterator[Prometheus]:
    """A worker and a sidecar of two processes, scraped, and all well."""
    sidecar_port = free_port()
    arguments = ("--workers", "2", "--metrics-bind", f"tcp://127.0.0.1:{sidecar_port}")
    bare_stage.start_sidecar(arguments=arguments, threads=3)
    worker = bare_stage.start_worker()
    targets = {
        "bridge-worker": [f"127.0.0.1:{port_of(worker)}"],
        "bridge-sidecar": [f"127.0.0.1:{sidecar_port}"],
    }
    watched = Prometheus(bare_stage.directory, targets)
    wait_for(lambda: len(watched.query("up == 1")) == 2, "both to be scraped", 30)
    yield watched
    watched.stop()


def seconds_until_firing(watched: Prometheus, planted_at: float, *alerts: str) -> float:
    """Seconds from the incident until all of these fire."""
    wait_for(lambda: set(alerts) <= watched.firing(), f"{alerts}, not {watched.firing()}", 2 * MINUTE)
    return time.monotonic() - planted_at


def test_a_poison_pill_shows_within_a_minute(watched: Prometheus, bare_stage: Stage) -> None:
    bare_stage.ruby.push("EchoJob", "before")
    wait_for(lambda: bare_stage.counters()[0] == 1, "an ordinary job to be done")
    wait_for(lambda: watched.query("bridge_sidecar_slots"), "the series to be there", 30)
    assert watched.firing() == set()

    # It is known for a poison pill when it has taken three processes with it.
    bare_stage.ruby.push("KillerJob")
    buried = wait_for(lambda: bare_stage.redis.zrange("dead", 0, -1), "the job to be buried", 90)
    planted_at = time.monotonic()
    assert b"Bridge::PoisonPill" in buried[0]
    assert seconds_until_firing(watched, planted_at, "BridgePoisonPill") < MINUTE


def test_an_absent_sidecar_and_a_growing_queue_show_within_a_minute(
    watched: Prometheus, bare_stage: Stage
) -> None:
    wait_for(lambda: watched.query("bridge_queue_depth"), "the series to be there", 30)
    assert watched.firing() == set()
    sidecar = bare_stage.sidecar
    assert sidecar is not None

    planted_at = time.monotonic()
    sidecar.process.kill()
    pushing = Pushing(bare_stage)
    try:
        assert seconds_until_firing(watched, planted_at, "BridgeNoSidecar", "BridgeSidecarDown") < MINUTE
        assert seconds_until_firing(watched, planted_at, "BridgeQueueGrowing", "BridgeQueueOld") < MINUTE
    finally:
        pushing.stop()

    # And it goes away when all is well again.
    sidecar.start()
    bare_stage.wait_done(60)
    wait_for(lambda: not watched.firing(), "the alerts to end", 2 * MINUTE)


class Pushing:
    """A Rails app that goes on pushing: 150 jobs at once, then ten a second."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._push, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(30)

    def _push(self) -> None:
        for number in range(150):
            self._stage.ruby.push("EchoJob", number)
        while not self._over.wait(1):
            for number in range(10):
                self._stage.ruby.push("EchoJob", number)
