"""Entries of beat's schedule that no push can carry are refused when the schedule is read.

`-B` with `kwargs` in an entry wrote a traceback at each tick, and no job was ever pushed.
"""

from __future__ import annotations

import json

import pytest

from tests.integration.test_user_settings import refused, write
from tests.support.processes import ROOT, Process
from tests.support.stage import Stage
from tests.support.waiting import wait_for
from tests.support.worker_process import CELERY, bridge_environment

HEAD = (
    "from bridge import app\nfrom celery.schedules import crontab, schedule\nfrom datetime import timedelta\n"
)
BAD = [
    ({"task": "ReportJob", "schedule": 60.0, "kwargs": {"user": 1}}, "keyword arguments (user)"),
    (
        {"task": "ReportJob", "schedule": 60.0, "options": {"expires": 15}},
        "sidekiq_options={'expires_in': 60}",
    ),
    ({"task": "ReportJob", "schedule": 60.0, "options": {"priority": 3}}, "a queue of its own"),
    ({"task": "ReportJob", "schedule": 60.0, "args": [float("inf")]}, "JSON has no such number"),
    ({"task": "ReportJob", "schedule": 60.0, "args": "one"}, "its args are 'one': write a list"),
    ({"task": "ReportJob", "schedule": "hourly"}, "its schedule is 'hourly': write seconds"),
    ({"task": "ReportJob"}, "its schedule is None"),
    ({"schedule": 60.0}, "its task is None: write the name of a Sidekiq class"),
    ({"task": "ReportJob", "schedule": 60.0, "queue": "low"}, "queue is not a field of an entry"),
]


@pytest.mark.parametrize(("entry", "reason"), BAD)
@pytest.mark.parametrize("command", [("worker", "-B"), ("beat",)])
def test_a_bad_entry_is_refused_with_its_name(
    bare_stage: Stage, command: tuple[str, ...], entry: dict[str, object], reason: str
) -> None:
    program = f"{HEAD}inf = float('inf')\napp.conf.beat_schedule = {{'nightly': {entry!r}}}\n"

    sentence = refused(bare_stage, *command, own_app=program)

    assert sentence.startswith("bridge: beat_schedule['nightly']: ")
    assert reason in sentence


def test_an_entry_that_a_module_adds_late_is_refused(bare_stage: Stage) -> None:
    program = """
    from bridge import app

    @app.task(name="ReportJob")
    def report(user): ...

    @app.on_after_finalize.connect
    def set_up(sender, **_):
        sender.add_periodic_task(60.0, report.s(user=1), name="nightly")
    """

    assert "keyword arguments (user)" in refused(bare_stage, "beat", own_app=program)


@pytest.mark.parametrize("embedded", [True, False])
def test_a_good_schedule_pushes(bare_stage: Stage, embedded: bool) -> None:
    program = HEAD + (
        "app.conf.beat_schedule = {\n"
        "    'second': {'task': 'SecondJob', 'schedule': 1, 'args': [1], 'options': {'queue': 'beaten'}},\n"
        "    'delta': {'task': 'DeltaJob', 'schedule': timedelta(seconds=1), 'relative': True},\n"
        "    'cron': {'task': 'CronJob', 'schedule': crontab(minute='*')},\n"
        "    'own': {'task': 'OwnJob', 'schedule': schedule(1.0)},\n"
        "}\n"
    )
    write(bare_stage.directory, own_app=program)
    path = {"PYTHONPATH": f"{ROOT}:{bare_stage.directory}"}
    state = str(bare_stage.directory / "beat-schedule")
    if embedded:
        bare_stage.start_worker("-B", "-s", state, "-Q", "nothing", module="own_app", env=path)
    else:
        env = {**bridge_environment(bare_stage.redis_url, None), **path}
        beat = Process("beat", [CELERY, "-A", "own_app", "beat", "-s", state], bare_stage.directory, env=env)

    wait_for(lambda: len(bare_stage.queued) == 2, "jobs in both queues")
    names = {"SecondJob", "DeltaJob", "OwnJob"}
    wait_for(lambda: names <= _classes(bare_stage), "a job of each class")
    if not embedded:
        beat.stop()


def _classes(stage: Stage) -> set[str]:
    payloads = [p for queue in stage.queued for p in stage.redis.lrange(queue, 0, -1)]
    return {json.loads(payload)["class"] for payload in payloads}
