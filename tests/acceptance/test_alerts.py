"""Planted incidents, seen by a real Prometheus with the rules of deploy/prometheus."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.grafana import dashboard
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
    wait_for(lambda: set(alerts) <= watched.firing(), f"{alerts} to fire", 2 * MINUTE)
    seconds = time.monotonic() - planted_at
    print(f"{', '.join(alerts)} after {seconds:.0f} s")
    return seconds


def on_the_dashboard(watched: Prometheus, title: str) -> dict[str, float]:
    """What the panel shows now: value by the labels of its series, joined."""
    board: dict[str, Any] = json.loads(dashboard.FILE.read_text())
    (targets,) = [
        panel["targets"] for panel in board["panels"] if panel["title"] == title and "targets" in panel
    ]
    series = [one for target in targets for one in watched.query(dashboard.plain(target["expr"]))]
    return {" ".join(one["metric"].values()): float(one["value"][1]) for one in series}


def test_a_poison_pill_shows_within_a_minute(watched: Prometheus, bare_stage: Stage) -> None:
    bare_stage.ruby.push("EchoJob", "before")
    wait_for(lambda: bare_stage.counters()[0] == 1, "an ordinary job to be done")
    wait_for(lambda: watched.query("bridge_sidecar_slots"), "the series to be there", 30)
    assert watched.firing() == set()

    # It is known for a poison pill when it has taken three processes with it.
    planted_at = time.monotonic()
    bare_stage.ruby.push("KillerJob")
    assert seconds_until_firing(watched, planted_at, "BridgePoisonPill") < MINUTE

    (buried,) = bare_stage.redis.zrange("dead", 0, -1)
    assert b"Bridge::PoisonPill" in buried
    assert "BridgePoisonPill" in on_the_dashboard(watched, "Firing")


def test_a_sidecar_that_is_gone_shows_within_a_minute_and_no_longer_when_it_is_back(
    watched: Prometheus, bare_stage: Stage
) -> None:
    wait_for(lambda: watched.query("bridge_sidecar_slots"), "the series to be there", 30)
    assert watched.firing() == set()
    assert on_the_dashboard(watched, "Sidecars") == {"": 1.0}
    sidecar = bare_stage.sidecar
    assert sidecar is not None

    planted_at = time.monotonic()
    sidecar.process.kill()

    assert seconds_until_firing(watched, planted_at, "BridgeNoSidecar", "BridgeSidecarDown") < MINUTE
    assert on_the_dashboard(watched, "Sidecars") == {"": 0.0}
    assert {"BridgeNoSidecar", "BridgeSidecarDown"} <= set(on_the_dashboard(watched, "Firing"))
    sidecar.start()
    wait_for(lambda: not watched.firing(), "the alerts to end", 2 * MINUTE)


def test_a_growing_queue_shows_within_a_minute(watched: Prometheus, bare_stage: Stage) -> None:
    wait_for(lambda: watched.query("bridge_queue_depth"), "the series to be there", 30)
    assert watched.firing() == set()

    # All is well but the speed: each job takes two seconds, and five run at once.
    planted_at = time.monotonic()
    pushing = Pushing(bare_stage)
    try:
        assert seconds_until_firing(watched, planted_at, "BridgeQueueGrowing") < MINUTE
        seconds_until_firing(watched, planted_at, "BridgeQueueOld")  # which waits for its jobs to be old
        assert on_the_dashboard(watched, "Waiting jobs")["default"] > 100
        assert on_the_dashboard(watched, "Age of the oldest job")["default"] > 30
        assert set(on_the_dashboard(watched, "Firing")) == {"BridgeQueueGrowing", "BridgeQueueOld"}
    finally:
        pushing.stop()


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
        for _ in range(150):
            self._stage.ruby.push("SleepJob", 2)
        while not self._over.wait(1):
            for _ in range(10):
                self._stage.ruby.push("SleepJob", 2)
