"""``python -m benchmarks.crowd bridge 200 --slots 20 --queues default,low``: runs until TERM.

``BRIDGE_REDIS_URL`` says where Redis is.
"""

from __future__ import annotations

import argparse
import gc
import resource
import signal
from collections.abc import Sequence
from typing import Protocol

from benchmarks.crowd.loop import Loop


class Member(Protocol):
    """One worker of the crowd."""

    def start(self) -> None:
        """Register and begin."""

    def stop(self) -> None:
        """End in order."""


def bridge(loop: Loop, count: int, queues: Sequence[str], slots: int) -> list[Member]:
    """Native workers of the bridge."""
    from benchmarks.apps import native
    from benchmarks.crowd.bridge_worker import BridgeWorker

    app = native.app
    app.finalize()
    return [BridgeWorker(app, app.bridge.settings, loop, queues, slots) for _ in range(count)]


def sidekiq(loop: Loop, count: int, queues: Sequence[str], slots: int) -> list[Member]:
    """Processes of Sidekiq 8.1."""
    from benchmarks.crowd.sidekiq_process import SidekiqProcess
    from bridge.settings import load

    address = load().redis_address
    return [SidekiqProcess(address, loop, queues, slots) for _ in range(count)]


def main() -> None:
    """Run a crowd until TERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("bridge", "sidekiq"))
    parser.add_argument("count", type=int)
    parser.add_argument("--slots", type=int, default=20)
    parser.add_argument("--queues", default="default", help="separated by commas, in strict order")
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ended.append(number))
    loop = Loop()
    make, queues = {"bridge": bridge, "sidekiq": sidekiq}[given.kind], given.queues.split(",")
    crowd = make(loop, given.count, queues, given.slots)
    for member in crowd:
        member.start()
    gc.freeze()  # a collection over the parts of all workers would stop all of them
    loop.run(lambda: ended)
    for member in crowd:
        member.stop()


if __name__ == "__main__":
    main()
