"""Runs the demo: start everything, say where to look, enqueue a mix, watch it, wait for Ctrl-C."""

import select
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

from scripts.demo import by_hand, options, probes, report, services, web_ui
from scripts.demo import place as places
from scripts.demo.errors import DemoError
from scripts.demo.options import Options
from scripts.demo.outcome import Job, Outcome
from scripts.demo.place import Place
from scripts.demo.supervisor import Service, Supervisor

PROGRESS_SECONDS = 0.5
#: Time for a person at a terminal to open the Busy page.
BEFORE_FIRST_JOB_SECONDS = 15.0
#: How long the slow jobs of the mix run: long enough to be seen by a person, short where none looks.
SLOW_SECONDS, SLOW_SECONDS_ONCE = 15.0, 2.0
#: A class that the demo's app has in both languages.
MOVING, MOVING_PERCENT = "StatementJob", "20"
INTERRUPTED = 128 + signal.SIGINT


def main() -> int:
    chosen = options.parse()
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with places.claim(chosen.directory), places.socket_directory() as sockets:
            place = places.make(chosen.directory, Path(sockets), chosen.redis_url)
            with supervised(place) as supervisor:
                run(place, supervisor, chosen)
    except DemoError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED if chosen.once else 0
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def supervised(place: Place) -> Iterator[Supervisor]:
    supervisor = Supervisor(place.logs, Printer(width=len("flower")))
    try:
        yield supervisor
    finally:
        place.by_hand.unlink(missing_ok=True)
        try:
            print("\nStopping (Ctrl-C again: at once) ...", flush=True)
            stopped = supervisor.stop()
        except KeyboardInterrupt:
            supervisor.kill()
            stopped = False
    if not stopped:
        raise DemoError("a service had to be killed")


def run(place: Place, supervisor: Supervisor, chosen: Options) -> None:
    """Everything between the first start and the stop."""
    if chosen.verbose:
        supervisor.shown |= {"redis", "web", "worker", "flower", "beat"}
    start_services(place, supervisor, chosen)
    by_hand.write(place)
    if not chosen.stock_sidekiq:
        move_a_class(place)
    print(report.addresses(place, bridge=not chosen.stock_sidekiq), flush=True)
    print(web_ui.note(place), end="", flush=True)
    outcome = Outcome(place)
    if not chosen.once:
        wait_for_reader()
    enqueue(place, chosen)
    jobs = watch(outcome, supervisor, chosen.timeout_seconds)
    print(report.summary(place, jobs, hints=not (chosen.stock_sidekiq or chosen.once)), flush=True)
    if not chosen.once:
        wait_for_interrupt(supervisor)
    wrong = sum(not job.as_expected for job in jobs)
    if wrong or not jobs:
        raise DemoError(f"{wrong} of {len(jobs)} jobs did not end as expected; the logs are in {place.logs}/")


def start_services(place: Place, supervisor: Supervisor, chosen: Options) -> None:
    if place.redis_port:
        start(supervisor, services.redis_server(place))
    else:
        refuse_a_busy_redis(place, chosen)
    if chosen.stock_sidekiq:
        start(supervisor, services.web(place), services.stock_sidekiq(place))
        return
    # Both boot Rails: together they take little longer than one.
    start(supervisor, services.web(place), services.bridge_up(place))
    start(supervisor, services.flower(place), services.beat(place))


def move_a_class(place: Place) -> None:
    """Run a fifth of one class in Python, as a team does that moves it."""
    command = [str(Path(sys.executable).with_name("bridge")), "move", MOVING, "--percent", MOVING_PERCENT]
    environment = place.environment | place.bridge_settings
    moved = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if moved.returncode:
        raise DemoError(f"{MOVING} could not be moved: {moved.stderr}")
    print(moved.stdout, end="", flush=True)


def start(supervisor: Supervisor, *group: Service) -> None:
    began = time.monotonic()
    print(f"Starting {' and '.join(service.name for service in group)} ...", end=" ", flush=True)
    for service in group:
        supervisor.start(service)
    supervisor.wait_until_ready(*group)
    print(f"ready after {time.monotonic() - began:.1f} s", flush=True)


def refuse_a_busy_redis(place: Place, chosen: Options) -> None:
    """A Redis that --redis names may be an application's: the demo's worker would run its jobs."""
    print("Using the Redis that --redis names.", flush=True)
    if not probes.redis_answers(place.redis_url):
        raise DemoError(
            "the Redis that --redis names does not answer; without --redis the demo starts its own"
        )
    if chosen.share_redis:
        return
    processes, jobs = services.sidekiq_processes(place.redis_url), services.waiting_jobs(place.redis_url)
    if processes or jobs:
        raise DemoError(
            f"the Redis that --redis names has {len(processes)} Sidekiq processes and {jobs} jobs, "
            "and the demo would run them: name an empty one, leave --redis out, or add --share-redis"
        )


def wait_for_reader() -> None:
    """Give a person at a terminal the time to open a page before the first job."""
    if not sys.stdin.isatty():
        return
    seconds = BEFORE_FIRST_JOB_SECONDS
    print(f"Open the Busy page. The jobs come in {seconds:.0f} s, or when you press Enter.", flush=True)
    if select.select([sys.stdin], [], [], seconds)[0]:
        sys.stdin.readline()


def enqueue(place: Place, chosen: Options) -> None:
    mix = {
        "SIZE": str(chosen.size),
        "NATIVE": "0" if chosen.stock_sidekiq else "1",
        "SLOW_SECONDS": str(SLOW_SECONDS_ONCE if chosen.once else SLOW_SECONDS),
    }
    finished = subprocess.run(
        ["bin/rails", "demo:enqueue"],
        cwd=places.RAILS_APP,
        env=place.environment | mix,
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
        if jobs and ended == len(jobs) and not outcome.in_flight():
            break
        supervisor.check()
        time.sleep(PROGRESS_SECONDS)
        jobs = outcome.jobs()
    progress.end()
    return jobs


def wait_for_interrupt(supervisor: Supervisor) -> NoReturn:
    while True:
        supervisor.check()
        time.sleep(PROGRESS_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
