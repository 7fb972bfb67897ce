"""Runs the demo: start everything, enqueue a mix, watch it, say what to look at, wait for Ctrl-C."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from honcho.printer import Printer

from scripts.demo import place as places
from scripts.demo import probes, report, services
from scripts.demo.outcome import Job, Outcome
from scripts.demo.place import Place
from scripts.demo.supervisor import DemoError, Service, Supervisor

PROGRESS_SECONDS = 0.5


def main() -> int:
    options = parse_options()
    signal.signal(signal.SIGTERM, interrupt)
    with places.socket_directory() as sockets:
        place = places.make(Path(sockets))
        with supervised(place) as supervisor:
            try:
                return run(place, supervisor, options)
            except DemoError as error:
                print(f"\ndemo: {error}", file=sys.stderr)
                return 1
            except KeyboardInterrupt:
                return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--exit-when-done",
        action="store_true",
        default=os.environ.get("DEMO_EXIT") == "1",
        help="exit after the summary: 0 if every job ended as expected (DEMO_EXIT=1)",
    )
    parser.add_argument("--size", type=int, default=int(os.environ.get("DEMO_SIZE", "20")), help="plain jobs")
    parser.add_argument("--timeout", type=float, default=float(os.environ.get("DEMO_TIMEOUT", "180")))
    parser.add_argument("--verbose", action="store_true", help="show the output of every service")
    parser.add_argument(
        "--stock-sidekiq", action="store_true", help="Sidekiq itself in the place of worker and sidecar"
    )
    return parser.parse_args()


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def supervised(place: Place) -> Iterator[Supervisor]:
    supervisor = Supervisor(place.logs, Printer(width=len("sidecar")))
    try:
        yield supervisor
    finally:
        try:
            print("\nStopping (Ctrl-C again: at once) ...", flush=True)
            supervisor.stop()
        except KeyboardInterrupt:
            supervisor.kill()


def run(place: Place, supervisor: Supervisor, options: argparse.Namespace) -> int:
    if options.verbose:
        supervisor.shown |= {"redis", "web", "sidecar", "worker", "flower", "beat"}
    start_services(place, supervisor, stock_sidekiq=options.stock_sidekiq)
    outcome = Outcome(place)
    enqueue(place, options)
    jobs = watch(outcome, supervisor, options.timeout)
    print(report.summary(place, jobs, stock_sidekiq=options.stock_sidekiq), flush=True)
    if options.exit_when_done:
        return 0 if all(job.as_expected for job in jobs) else 1
    supervisor.shown.add("worker")
    return wait_for_interrupt(supervisor)


def start_services(place: Place, supervisor: Supervisor, *, stock_sidekiq: bool) -> None:
    if place.redis_port:
        start(supervisor, services.redis_server(place))
    else:
        refuse_a_busy_redis(place)
    if stock_sidekiq:
        start(supervisor, services.web(place), services.stock_sidekiq(place))
        return
    # Both boot Rails: together they take little longer than one.
    start(supervisor, services.web(place), services.sidecar(place))
    start(supervisor, services.worker(place))
    start(supervisor, services.flower(place), services.beat(place))


def start(supervisor: Supervisor, *group: Service) -> None:
    began = time.monotonic()
    print(f"Starting {' and '.join(service.name for service in group)} ...", end=" ", flush=True)
    for service in group:
        supervisor.start(service)
    supervisor.wait_until_ready(*group)
    print(f"ready after {time.monotonic() - began:.1f} s", flush=True)


def refuse_a_busy_redis(place: Place) -> None:
    print("Using the Redis of REDIS_URL.", flush=True)
    if not probes.redis_answers(place.redis_url):
        raise DemoError("the Redis of REDIS_URL does not answer; without REDIS_URL the demo starts its own")
    if os.environ.get("DEMO_SHARE_REDIS") != "1" and services.sidekiq_processes(place.redis_url):
        raise DemoError(
            "other Sidekiq processes work on the Redis of REDIS_URL, and the demo would run their jobs. "
            "Unset REDIS_URL, or set DEMO_SHARE_REDIS=1 if that is what you want"
        )


def enqueue(place: Place, options: argparse.Namespace) -> None:
    native = "0" if options.stock_sidekiq else "1"
    finished = subprocess.run(
        ["bin/rails", "demo:enqueue"],
        cwd=places.RAILS_APP,
        env={**place.environment, "SIZE": str(options.size), "NATIVE": native},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise DemoError(f"the jobs could not be enqueued:\n{finished.stdout}")
    print(finished.stdout.splitlines()[-1], flush=True)


def watch(outcome: Outcome, supervisor: Supervisor, timeout_seconds: float) -> list[Job]:
    """Show the counters until every job has ended as expected, or the time is over."""
    deadline = time.monotonic() + timeout_seconds
    progress = report.Progress(sys.stdout)
    jobs = outcome.jobs()
    while time.monotonic() < deadline:
        ended = sum(job.as_expected for job in jobs)
        progress.show(f"{ended}/{len(jobs)} jobs ended  ({outcome.counts()})")
        if ended == len(jobs) and not outcome.in_flight():
            break
        supervisor.check()
        time.sleep(PROGRESS_SECONDS)
        jobs = outcome.jobs()
    progress.end()
    return jobs


def wait_for_interrupt(supervisor: Supervisor) -> int:
    while True:
        supervisor.check()
        time.sleep(PROGRESS_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
