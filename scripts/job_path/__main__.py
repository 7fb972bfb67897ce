"""``scripts/job-path [native native-failing ruby ruby-failing]``: files entered, and changes of file.

A change is a call or a return whose file differs from the one before on the same thread. Threads that have no
part in the job (heartbeat, reaper, scheduler, probes) are left out. The figures vary by a turn of the loop.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import redis

ROOT = Path(__file__).resolve().parents[2]
JOBS = {
    "native": "PathJob",
    "native-failing": "PathFailJob",
    "ruby": "RubyPathJob",
    "ruby-failing": "RubyPathFailJob",
}
RUBY = """
require "sidekiq"
class RubyPathJob
  include Sidekiq::Worker
  def perform(*) = nil
end
class RubyPathFailJob
  include Sidekiq::Worker
  def perform(*) = raise("failed on purpose")
end
"""
PARTAKING = ("MainThread", "bridge-native", "bridge-sidecar_")
WARM_UPS = 5
GENEROUS_SECONDS = 60.0

Step = tuple[str, str, str, str]
"""Thread, ``call`` or ``return``, file, function."""


def main(kinds: Sequence[str]) -> int:
    """Print a line for each kind of job."""
    if unknown := set(kinds) - JOBS.keys():
        print(f"{', '.join(sorted(unknown))}: write some of {' '.join(JOBS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="jp") as name, contextlib.ExitStack() as stack:
        place = Path(name)
        client = stack.enter_context(_redis(place))
        stack.enter_context(_sidecar(place))
        url = f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0"
        worker = stack.enter_context(_worker(place, url))
        _wait(lambda: client.scard("processes") == 1, "the worker")
        for kind in kinds or JOBS:
            print(f"{kind:15}{_described(_followed(kind, client, worker, place / 'steps.json'))}")
    return 0


def _followed(kind: str, client: redis.Redis, worker: subprocess.Popen[bytes], file: Path) -> list[Step]:
    for _ in range(WARM_UPS):
        _run(kind, client)
    time.sleep(1.5)  # the loop comes to rest: nothing but the next job is to be seen
    file.unlink(missing_ok=True)
    worker.send_signal(signal.SIGUSR2)
    _run(kind, client)
    time.sleep(0.3)  # Redis has the outcome before the worker has counted and logged it
    worker.send_signal(signal.SIGUSR2)
    _wait(file.exists, "the steps")
    time.sleep(0.2)  # for the rest of the file
    found: list[Step] = [tuple(step) for step in json.loads(file.read_text())]
    return found


def _run(kind: str, client: redis.Redis) -> None:
    before = _processed(client)
    now = time.time()
    job = {"class": JOBS[kind], "args": [1], "retry": True, "queue": "default", "created_at": now}
    client.lpush("queue:default", json.dumps({**job, "jid": os.urandom(12).hex(), "enqueued_at": now}))
    _wait(lambda: _processed(client) > before, "the job")


def _processed(client: redis.Redis) -> int:
    return int(client.get("stat:processed") or 0)


def _described(steps: Sequence[Step]) -> str:
    by_thread: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step[0].startswith(PARTAKING):
            by_thread[step[0]].append(step)
    files = {step[2] for found in by_thread.values() for step in found if step[1] == "call"}
    changes = sum(_changes([step[2] for step in found]) for found in by_thread.values())
    calls = sum(_changes([step[2] for step in found if step[1] == "call"]) for found in by_thread.values())
    return f"{len(files):3} files, {changes:3} changes of file, {calls:3} from call to call"


def _changes(files: Sequence[str]) -> int:
    return sum(one != other for one, other in itertools.pairwise(files))


# -- the parts


@contextlib.contextmanager
def _redis(place: Path) -> Iterator[redis.Redis]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with _process(command, {}, place / "redis.log"):
        client: redis.Redis = redis.Redis(port=port)
        _wait(client.ping, "Redis")
        yield client


@contextlib.contextmanager
def _sidecar(place: Path) -> Iterator[None]:
    (place / "jobs.rb").write_text(RUBY)
    command = ["ruby", "sidecar/bin/sidecar", "--require", str(place / "jobs.rb"), "--threads", "5"]
    with _process([*command, "--bind", f"unix://{place / 'sidecar'}"], {}, place / "sidecar.log"):
        _wait((place / "sidecar").exists, "the sidecar")
        yield


@contextlib.contextmanager
def _worker(place: Path, redis_url: str) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        "BRIDGE_REDIS_URL": redis_url,
        "BRIDGE_SIDECAR_URL": f"unix://{place / 'sidecar'}",
        "BRIDGE_IMPORTS": "scripts.job_path.hook",
        "BRIDGE_HEALTH_BIND": "127.0.0.1:0",
        "JOB_PATH_FILE": str(place / "steps.json"),
        "PYTHONPATH": str(ROOT),
    }
    command = [str(Path(sys.executable).with_name("celery")), "-A", "bridge", "worker", "-c", "5"]
    with _process(command, env, place / "worker.log") as process:
        yield process


@contextlib.contextmanager
def _process(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **env}, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _wait(is_so: Callable[[], object], what: str) -> None:
    until = time.monotonic() + GENEROUS_SECONDS
    while True:
        with contextlib.suppress(redis.ConnectionError):
            if is_so():
                return
        if time.monotonic() > until:
            raise TimeoutError(f"waited {GENEROUS_SECONDS:g} s for {what}")
        time.sleep(0.001)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
