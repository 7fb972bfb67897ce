"""A batch among kills: each callback is pushed exactly once, after the last job, and never before."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bridge.celery import make_app
from bridge.settings import load as load_settings
from tests.faults.report import Report
from tests.faults.rig import Rig, seconds_until
from tests.support.waiting import wait_for

#: No worker serves it: a callback that is pushed twice is there twice.
CALLBACKS = "callbacks"
#: class, arguments and retries of the jobs of a batch, which all are done in the end.
MIX: tuple[tuple[str, list[Any], int], ...] = (
    ("SleepJob", [0.1], 5),
    ("NativeSleepJob", [0.1], 5),
    ("SleepJob", [0.3], 5),
    ("NativeSleepJob", [0.3], 5),
    ("SleepJob", [0], 5),
    ("FailOnceJob", [], 5),
    ("NativeSleepJob", [0], 5),
    ("NativeFailOnceJob", [], 5),
)
#: Dead after their first run: a person retries them.
MORTAL = (("FailOnceJob", [], 0), ("NativeFailOnceJob", [], 0))


def make_batch(rig: Rig, jobs: int, mortal: int) -> Any:
    app = make_app(
        load_settings({"BRIDGE_REDIS_URL": rig.redis_url, "BRIDGE_SIDEKIQ_VERSION": rig.ruby.version})
    )
    batch = app.Batch("among kills")
    for event in ("complete", "success", "death"):
        getattr(batch, f"on_{event}")(app.signature(f"{event.title()}Job", queue=CALLBACKS))
    with batch.jobs():
        for i in range(jobs):
            name, args, retry = MORTAL[i % 2] if i < mortal else MIX[i % len(MIX)]
            app.send_task(name, args=args, sidekiq_options={"retry": retry})
    return batch


def callbacks(rig: Rig) -> list[tuple[str, float]]:
    """Class and time of each push of a callback, the first first."""
    found = [json.loads(payload) for payload in rig.redis.lrange(f"queue:{CALLBACKS}", 0, -1)]
    return [(job["class"], job["enqueued_at"] / (1 if job["enqueued_at"] < 1e11 else 1000)) for job in found][
        ::-1
    ]


def ended_at(rig: Rig, *events: str) -> float:
    """When the last job of the batch ended so first."""
    first: dict[str, float] = {}
    for line in rig.ledger.lines:
        if line["event"] in events:
            first.setdefault(line["jid"], line["at"])
    return max(first.values())


def kill_at_random(rig: Rig, seed: int, kills: int) -> str:
    chance, starting, names = random.Random(seed), [], []
    for i in range(kills):
        parts, restart = _victims(rig, i % 2 == 0)
        name = chance.choice(sorted(parts))
        part = parts.pop(name)
        rig.kill(part.process.pid)
        part.process.wait(10)
        part.process.kill()
        names.append(name)
        starting.append(threading.Thread(target=_for_good, args=(restart, name), daemon=True))
        starting[-1].start()
        time.sleep(chance.uniform(0.2, 0.9))
    wait_for(lambda: len(rig.workers) == 3 and len(rig.sidecars) == 2, "all to be started again", 60)
    return ", ".join(names)


def _victims(rig: Rig, is_worker: bool) -> tuple[dict[str, Any], Callable[[str], object]]:
    if is_worker and rig.workers:
        return rig.workers, lambda name: rig.add_worker(
            name, *(("-P", "prefork") if name == "prefork" else ()), concurrency=4 if name == "prefork" else 8
        )
    wait_for(lambda: rig.sidecars, "a sidecar to kill", 30)
    return rig.sidecars, rig.add_sidecar


def _for_good(restart: Callable[[str], object], name: str) -> None:
    restart(name)
    threading.Event().wait()  # the new process dies with the thread that started it


def until(rig: Rig, batch: Any, state: str, seconds: float = 120) -> float:
    def reached() -> bool:
        rig.make_due("retry")
        return bool(batch.status().state == state)

    return seconds_until(reached, f"the batch to be {state}", seconds)


@pytest.mark.parametrize(
    ("jobs", "kills"),
    [
        pytest.param(200, 4, marks=[pytest.mark.short, pytest.mark.timeout(240)]),
        pytest.param(1000, 10, marks=pytest.mark.timeout(600)),
    ],
)
def test_callbacks_are_pushed_once_whatever_is_killed(
    rig: Rig, report: Report, seed: int, jobs: int, kills: int
) -> None:
    """Given a batch of Ruby and Python jobs, some of which fail or die, when workers and sidecars are killed,
    then on_death, on_complete and on_success are pushed once each, and never too early."""
    batch = make_batch(rig, jobs, mortal=20)

    killed = kill_at_random(rig, seed, kills)
    until(rig, batch, "complete")

    assert sorted(name for name, _ in callbacks(rig)) == ["CompleteJob", "DeathJob"]
    complete = dict(callbacks(rig))["CompleteJob"]
    assert complete >= ended_at(rig, "done", "failed")
    status = batch.status()
    assert status.dead  # a kill may have come before such a job was settled, and its second run is done
    assert (status.total, status.pending) == (jobs, status.dead + status.failed)

    rig.ruby.evaluate("Sidekiq::DeadSet.new.retry_all; nil")
    until(rig, batch, "done")

    assert sorted(name for name, _ in callbacks(rig)) == ["CompleteJob", "DeathJob", "SuccessJob"]
    done = {line["jid"] for line in rig.ledger.lines if line["event"] == "done"}
    assert len(done) == jobs
    assert dict(callbacks(rig))["SuccessJob"] >= ended_at(rig, "done")
    assert batch.status().pending == 0
    running = sum(line["event"] == "started" for line in rig.ledger.lines)
    print(f"killed: {killed}; {status.dead} dead; {running - len(done)} runs more than jobs")
