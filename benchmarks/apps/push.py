"""Pushes jobs as fast as it can: ``python -m benchmarks.apps.push bridge`` (or ``celery``)."""

import json
import os
import sys
import time
from collections.abc import Callable

WARM_UP = 200


def bridge() -> Callable[[], object]:
    """The bridge as a producer: an ordinary Sidekiq job."""
    from bridge import app

    return lambda: app.send_task("NoopJob", args=[1])


def celery() -> Callable[[], object]:
    """Celery's own ``apply_async`` on its stock transport."""
    from benchmarks.apps.stock import noop

    return lambda: noop.apply_async(args=(1,))


def main(kind: str) -> None:
    """Push, and print what it took."""
    push = {"bridge": bridge, "celery": celery}[kind]()
    for _ in range(WARM_UP):
        push()
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(int(os.environ["BENCH_JOBS"])):
        push()
    used = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps(used | {"warm_up": WARM_UP}))


if __name__ == "__main__":
    main(sys.argv[1])
