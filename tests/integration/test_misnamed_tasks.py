"""Native tasks named for no class, and Ruby jobs without a sidecar: worker, probes and doctor say so."""

from __future__ import annotations

import pytest

from bridge.sidekiq.api.processes import Processes
from tests.support.command import Bridge
from tests.support.diagnosis import Seen, diagnose
from tests.support.probes import health, port_of
from tests.support.stage import Stage
from tests.support.waiting import wait_for

MODULE = "tests.support.misnamed_tasks"


@pytest.fixture
def misnamed(bare_stage: Stage) -> Stage:
    """A worker without a sidecar, whose native tasks are nearly named as the classes that wait."""
    bare_stage.push_job({"class": "NativeReportJob"})
    bare_stage.push_job({"class": "CleanUpJob"})
    bare_stage.start_worker("-Q", "default,low", module=MODULE)
    return bare_stage


def bridge_of(stage: Stage, **more: str) -> Bridge:
    nowhere = {"BRIDGE_SIDECAR_URL": f"unix://{stage.directory}/no.sock", "BRIDGE_HEALTH_BIND": "127.0.0.1:0"}
    return Bridge({"BRIDGE_REDIS_URL": stage.redis_url, **nowhere, **more})


def test_the_start_line_says_what_the_worker_will_do(misnamed: Stage) -> None:
    assert misnamed.worker is not None
    (line,) = (line for line in misnamed.worker.log.splitlines() if "takes jobs from" in line)

    assert line.startswith("INFO ")
    for part in (
        "takes jobs from default, low (in this order); slots 5, pool bridge; ",
        "native tasks NativeReprotJob (near NativeReportJob, which waits), myapp.clean_up_job (near Clean",
        "sidecars unix:///",
        f"Redis {misnamed.redis_url} (BRIDGE_REDIS_URL); configuration from the environment",
    ):
        assert part in line


def test_the_worker_warns_of_a_queue_that_is_nearly_another(bare_stage: Stage) -> None:
    # A worker with -Q defualt started, and waited for jobs that never came.
    bare_stage.push_job({"class": "EchoJob"}, "default")
    worker = bare_stage.start_worker("-Q", "defualt,mailers")

    assert "queue defualt has never had a job: did you mean default?" in worker.log
    assert "queue mailers" not in worker.log


def test_the_worker_warns_of_names_that_run_nothing(misnamed: Stage) -> None:
    assert misnamed.worker is not None
    log = misnamed.worker.log

    assert "jobs of NativeReportJob wait, and the native task is named NativeReprotJob" in log
    assert "jobs of CleanUpJob wait, and the native task is named myapp.clean_up_job" in log


@pytest.mark.parametrize("asked", ["its probes", "remote control"])
def test_the_doctor_names_the_task_the_class_and_the_jobs_that_wait(bare_stage: Stage, asked: str) -> None:
    stage = bare_stage
    stage.push_job({"class": "NativeReportJob"})
    worker = stage.start_worker("-Q", "default", module=MODULE)
    processes = Processes(stage.redis)
    wait_for(lambda: [row for row in processes.all() if row.queues], "the queues on the Busy page")
    bind = {"BRIDGE_HEALTH_BIND": f"127.0.0.1:{port_of(worker)}"} if asked == "its probes" else {}

    answer = bridge_of(stage, **bind)("doctor", "--json")

    found = {one["code"]: Seen(one["severity"], one["seen"], one["cure"]) for one in answer.json}
    assert answer.code == 1
    near, waits = found["near-name"], found["ruby-jobs-wait"]
    assert "jobs of NativeReportJob run in Ruby, and a native task is named NativeReprotJob" in near.seen
    assert '@app.task(name="NativeReportJob")' in near.cure
    assert (waits.severity, waits.cure) == ("error", "start bin/sidecar, or correct BRIDGE_SIDECAR_URL")
    assert "Ruby jobs wait in default (NativeReportJob)" in waits.seen
    assert "worker-not-ready" not in found


def test_health_says_that_ruby_jobs_wait_until_a_sidecar_runs_them(bare_stage: Stage) -> None:
    # /health had no word for it.
    stage = bare_stage
    worker = stage.start_worker(module=MODULE)
    wait_for(lambda: health(worker)["reasons"] == [], "a worker that is ready")

    stage.push_job({"class": "EchoJob"})

    page = wait_for(lambda: (found := health(worker))["reasons"] and found, "a reason in /health")
    assert "Ruby jobs wait in queue default, and no sidecar runs them" in page["reasons"][0]
    assert (page["status"], page["ready"]) == ("degraded", True)  # native jobs go on
    stage.redis.delete("queue:default")
    wait_for(lambda: health(worker)["reasons"] == [], "no reason once nothing waits")


def test_nothing_is_said_of_ruby_jobs_that_a_sidecar_runs(bare_stage: Stage) -> None:
    stage = bare_stage
    sidecar = stage.start_sidecar()
    stage.start_worker()
    stage.push_job({"class": "GateJob", "args": ["g"]})

    found = diagnose(bridge_of(stage, BRIDGE_SIDECAR_URL=sidecar.url))

    assert found.keys().isdisjoint({"ruby-jobs-wait", "near-name"})
    stage.ledger.open_gate("all")
