from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from benchmarks import procfs, results
from benchmarks.goals import ONE_NATIVE
from benchmarks.loads import ID, release, stage
from benchmarks.methods.pushing import Pushing
from benchmarks.site import Site
from tests.support.processes import ROOT
from tests.support.waiting import wait_for


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The smallest run there is: the system's Sidekiq and a native worker."""
    words = ["--only", "native no-op", "--peers", "bridge, native", "--rounds", "1", "--quick"]
    return [
        sys.executable,
        "-m",
        "benchmarks",
        *words,
        "--scale",
        "0.02",
        "--json",
        str(tmp_path / "found.json"),
    ]


@pytest.fixture
def run(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Runs it without the change-roots, which take minutes to build."""
    env = os.environ | {"BRIDGE_RELEASES": "system"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    yield process
    process.kill()
    process.communicate()


def test_a_short_run_measures_both_peers_and_writes_what_it_found(
    run: subprocess.Popen[str], tmp_path: Path
) -> None:
    said, _ = run.communicate(timeout=100)

    assert run.returncode == 0, said
    found = results.read(tmp_path / "found.json").scenarios["native no-op"]
    assert set(found.rows) == {found.base, ONE_NATIVE}
    for (sample,) in found.rows.values():
        assert sample is not None
        assert sample["jobs_per_second"] > 0
        assert 10 < sample["cpu_us_per_job"] < 100_000
        assert sample["pss_mb"] > 10
    assert "Not shown:" in said


def test_ctrl_c_leaves_no_process_and_reports_what_there_is(
    run: subprocess.Popen[str], tmp_path: Path
) -> None:
    # Given a run with its Redis and at least one worker
    family = wait_for(
        lambda: (pids := procfs.descendants([run.pid])) and len(pids) > 2 and pids, "the processes"
    )

    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)

    assert run.returncode == 130, said
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert results.read(tmp_path / "found.json").scenarios.keys() == {"native no-op"}


#: Starts a child with a child of its own, ends the first, and says whether the other one is left.
_FAMILY = """
import subprocess, sys
from pathlib import Path
from benchmarks import processes
processes.adopt_orphans()
family = ["sh", "-c", "sleep 100 & echo $!; exec sleep 100"]
child = subprocess.Popen(family, stdout=subprocess.PIPE, text=True)
grandchild = child.stdout.readline().strip()
child.kill()
child.wait()
processes.end_orphans()
print(Path(f"/proc/{grandchild}").exists())
"""


def test_orphans_are_gone_once_they_are_ended() -> None:
    # Killed is not gone: one run in many of the test above found a process that was about to end.
    command = [sys.executable, "-c", _FAMILY]
    for _ in range(5):
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
        assert said.stdout == "False\n"


def test_jobs_are_pushed_one_by_one_as_sidekiqs_client_does(empty_redis: redis.Redis, tmp_path: Path) -> None:
    site = Site(empty_redis, "", 0, tmp_path)
    chance = random.Random(1)

    with Pushing(site, "queue:default", f'{{"jid":"{ID}"}}', ID) as pushing:
        began = time.monotonic()
        pushing.at_random(0.5, 400, chance)
        seconds = time.monotonic() - began

    assert 0.5 <= seconds < 5
    assert 100 < pushing.pushed < 300
    assert empty_redis.smembers("queues") == {b"default"}
    found = empty_redis.lrange("queue:default", 0, -1)
    assert found[-1] == b'{"jid":"%024x"}' % 1
    assert found[0] == b'{"jid":"%024x"}' % pushing.pushed


def test_a_push_that_redis_refuses_ends_the_measurement(empty_redis: redis.Redis, tmp_path: Path) -> None:
    empty_redis.set("queue:default", "not a list")
    site = Site(empty_redis, "", 0, tmp_path)

    with (
        Pushing(site, "queue:default", ID, ID) as pushing,
        pytest.raises(RuntimeError, match=r"Redis refused a push: .*WRONGTYPE"),
    ):
        pushing.push()


@pytest.mark.parametrize(("queues", "jobs"), [(1, 7), (3, 10), (100, 130)])
def test_jobs_are_spread_over_all_queues_and_none_is_left_out(
    empty_redis: redis.Redis, tmp_path: Path, queues: int, jobs: int
) -> None:
    # A split by rounding up once left the last of a hundred queues empty, and what followed failed.
    site = Site(empty_redis, "", 0, tmp_path)
    templates = [(f"queue:q{number}", f"{number}-{ID}") for number in range(queues)]

    stage(site, templates, jobs, first=5)
    release(site, [key for key, _ in templates])

    found = [payload for key, _ in templates for payload in empty_redis.lrange(key, 0, -1)]
    assert len({payload.split(b"-")[1] for payload in found}) == len(found) == jobs
    assert all(empty_redis.llen(key) >= jobs // queues for key, _ in templates)
