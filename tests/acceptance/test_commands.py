"""Celery's own commands and programs work as with any Celery application."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import bridge
from tests.support import census
from tests.support.processes import ROOT, Process, clean_environment, free_port
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for
from tests.support.worker_process import CELERY, bridge_environment


def celery(stage: Stage, *words: str, seconds: float = 40, **env: str) -> subprocess.CompletedProcess[str]:
    """Run one command of the application to its end."""
    return subprocess.run(
        [CELERY, "-A", "bridge", *words],
        env=clean_environment() | bridge_environment(stage.redis_url, None) | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def test_inspect_ping_finds_the_worker_and_leaves_no_foreign_key(stage: Stage) -> None:
    answer = celery(stage, "inspect", "ping", "--timeout", "3")

    assert answer.returncode == 0, answer.stderr
    assert "pong" in answer.stdout
    census.assert_keys_clean(stage.redis)


@pytest.mark.parametrize("command", ["active", "stats", "active_queues", "registered"])
def test_inspect_reads_the_worker(stage: Stage, command: str) -> None:
    answer = celery(stage, "inspect", command, "--timeout", "3", "--json")

    assert answer.returncode == 0, answer.stderr
    assert len(json.loads(answer.stdout)) == 1
    census.assert_keys_clean(stage.redis)


# `inspect active` once printed the arguments of native jobs, while events and Flower hid them.
@pytest.mark.parametrize("job_class", ["NativeGateJob", "GateJob"])
@pytest.mark.parametrize("shown", ["false", "true"])
def test_inspect_shows_arguments_only_where_events_do(bare_stage: Stage, job_class: str, shown: str) -> None:
    stage = bare_stage
    stage.start_sidecar()
    stage.start_worker(env={"BRIDGE_SHOW_ARGS": shown})
    jid = stage.ruby.push(job_class, "canary-4711")
    stage.ledger.wait_for("started", jid)

    answers = [
        celery(stage, "inspect", *words, "--timeout", "3", "--json")
        for words in (("active",), ("query_task", jid))
    ]

    for answer in answers:
        assert jid in answer.stdout
        assert ("canary-4711" in answer.stdout) == (shown == "true")
    stage.ledger.open_gate("all")


# Each of these once ended in a traceback of Celery's.
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("result", "a" * 24), f"jid={'a' * 24}: Redis has no result of it"),
        (("result", "--traceback", "a" * 24), f"jid={'a' * 24}: Redis has no result of it"),
        (("call", "EchoJob", "--kwargs", '{"a": 1}'), "keyword arguments (a) have no place in a Sidekiq job"),
        (("call", "EchoJob", "--queue", "bad name*"), "'bad name*' cannot be the name of a queue"),
        (
            ("call", "EchoJob", "--exchange", "media", "--routing-key", "a"),
            "exchange='media', routing_key='a' leads to no declared queue",
        ),
        (("call", "EchoJob", "--expires", "60"), "a Sidekiq job cannot carry expires: write"),
        (("call", "EchoJob", "--serializer", "pickle"), "serializer='pickle': Ruby reads JSON only"),
    ],
)
def test_a_command_without_a_meaning_here_ends_in_a_sentence(
    stage: Stage, words: tuple[str, ...], said: str
) -> None:
    answer = celery(stage, *words)

    assert answer.returncode == 1
    assert answer.stderr.startswith(f"Error: {'' if words[0] == 'result' else 'EchoJob: '}{said}")
    assert len(answer.stderr.splitlines()) == 1


def test_migrate_ends_in_a_sentence(stage: Stage) -> None:
    """It waited without end for messages that are not there."""
    answer = celery(stage, "migrate", stage.redis_url, stage.redis_url)

    assert answer.returncode == 1
    assert answer.stderr.startswith("Error: celery migrate: Sidekiq's jobs are not messages of Celery")
    assert len(answer.stderr.splitlines()) == 1


def test_report_names_the_release_of_the_bridge(stage: Stage) -> None:
    answer = celery(stage, "report")

    assert f"sidekiq-bridge:{bridge.__version__}" in answer.stdout  # it said N/A
    assert "results:" in answer.stdout


def test_events_are_dumped_without_a_warning_until_ctrl_c(stage: Stage, tmp_path: Path) -> None:
    # click warned of Celery's own options, twice, before the first event.
    env = bridge_environment(stage.redis_url, None)
    dump = Process("dump", [CELERY, "-A", "bridge", "events", "--dump"], tmp_path, env=env)
    dump.wait_ready(lambda: " heartbeat" in dump.log, 40)
    jid = stage.ruby.push("NativeEchoJob")
    wait_for(lambda: f"[{jid}]" in dump.log or jid in dump.log, "the job in the dump")

    dump.signal(signal.SIGINT)

    assert dump.wait(20) == 0
    assert "Warning" not in dump.log
    assert "Traceback" not in dump.log


def test_celery_result_prints_the_result_of_a_tracked_job(stage: Stage) -> None:
    jid = stage.push_job({"class": "NativeEchoJob", "args": [1], "bridge_track": True}, "default")
    # The task returns None, for which Celery prints an empty line.
    answer = celery(stage, "result", jid)
    assert (answer.returncode, answer.stdout) == (0, "\n")


def test_a_consumer_is_added_and_cancelled_while_the_worker_runs(stage: Stage) -> None:
    stage.push_job({"class": "EchoJob", "jid": "first"}, "extra")
    holds_for(lambda: stage.redis.llen("queue:extra") == 1, 0.5, "nobody takes from extra")

    assert celery(stage, "control", "add_consumer", "extra", "--timeout", "3").returncode == 0
    stage.ledger.wait_for("done", "first")

    assert celery(stage, "control", "cancel_consumer", "extra", "--timeout", "3").returncode == 0
    stage.push_job({"class": "EchoJob", "jid": "second"}, "extra")
    holds_for(lambda: stage.redis.llen("queue:extra") == 1, 1.5, "nobody takes from extra any more")
    stage.ledger.wait_for("done", stage.ruby.push("EchoJob"))


def test_send_task_pushes_jobs_that_ruby_and_python_run(stage: Stage) -> None:
    code = """
from bridge import app
print(app.send_task("EchoJob", args=[1, "zoë"]).id)
print(app.send_task("NativeEchoJob", args=[2]).id)
print(app.send_task("EchoJob", args=[3], countdown=1).id)
"""
    answer = subprocess.run(
        [CELERY.with_name("python"), "-c", code],
        env=clean_environment() | bridge_environment(stage.redis_url, None),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert answer.returncode == 0, answer.stderr
    jids = answer.stdout.split()

    for jid in jids:
        stage.ledger.wait_for("done", jid)

    assert [stage.ledger.args(jid) for jid in jids] == [[1, "zoë"], [2], [3]]
    census.assert_keys_clean(stage.redis)


def test_beat_enqueues_sidekiq_jobs(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "periodic.py").write_text(
        "from bridge import app\n"
        "app.conf.beat_schedule = {'tick': {'task': 'EchoJob', 'schedule': 1.0, 'args': ['tick']}}\n"
    )
    env = bridge_environment(stage.redis_url, None) | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    words = [CELERY, "-A", "periodic", "beat", "-s", tmp_path / "schedule", "--pidfile", ""]
    beat = Process("beat", words, tmp_path, env=env)
    try:
        wait_for(lambda: stage.ledger.count("done") >= 2, "two ticks", 25)
    finally:
        beat.stop()

    assert stage.ledger.lines[0]["class"] == "EchoJob"
    assert stage.ledger.lines[0]["args"] == ["tick"]
    census.assert_keys_clean(stage.redis)


REFUSALS: dict[str, tuple[dict[str, str], str]] = {
    "a setting of the wrong type": ({"BRIDGE_LEASE_SECONDS": "soon"}, "BRIDGE_LEASE_SECONDS"),
    "an unknown scheme": ({"BRIDGE_REDIS_URL": "memcached://x"}, "BRIDGE_REDIS_URL"),
    "queues that make no sense": ({"BRIDGE_QUEUES": "no/slash"}, "BRIDGE_QUEUES"),
    "a file that is not there": ({"BRIDGE_CONFIG": "/nowhere/bridge.yml"}, "BRIDGE_CONFIG"),
    "TCP without a secret": ({"BRIDGE_SIDECAR_URL": "http://127.0.0.1:9"}, "BRIDGE_SIDECAR_SECRET"),
    "a far sidecar without TLS": (
        {"BRIDGE_SIDECAR_URL": "http://10.0.0.1:9292", "BRIDGE_SIDECAR_SECRET": "x" * 32},
        "https",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_worker_refuses_to_start_with_one_clear_sentence(stage: Stage, case: str) -> None:
    extra, named = REFUSALS[case]
    env = clean_environment() | bridge_environment(stage.redis_url, None) | extra

    answer = subprocess.run(
        [CELERY, "-A", "bridge", "worker", "-c", "1"],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=40,
    )  # fmt: skip

    said = answer.stderr.strip()
    assert answer.returncode == 78
    assert "Traceback" not in said + answer.stdout
    assert named in said, said
    assert said.splitlines()[-1].startswith("bridge: "), said


@pytest.mark.parametrize(
    "setting",
    [
        "worker_timer_precision = 'x'",
        "worker_timer = 'x:Y'",
        "worker_pool = 'x:Y'",
        "task_annotations = 'x:Y'",
        "accept_content = ['a']",
    ],
)
def test_a_setting_that_celery_trips_over_is_one_sentence(stage: Stage, tmp_path: Path, setting: str) -> None:
    """Each was a traceback of Celery's."""
    (tmp_path / "wrong_settings.py").write_text(f"from bridge import app\napp.conf.{setting}\n")
    env = clean_environment() | bridge_environment(stage.redis_url, None)

    answer = subprocess.run(
        [CELERY, "-A", "wrong_settings", "worker", "-c", "1"],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=40,
    )  # fmt: skip

    assert answer.returncode == 78
    assert "Traceback" not in answer.stderr + answer.stdout
    assert answer.stderr.strip().splitlines()[-1].startswith(f"bridge: {setting} ")


def test_a_refused_purge_is_one_sentence_and_purges_nothing(stage: Stage) -> None:
    stage.push_job({"class": "EchoJob"}, "kept")

    answer = celery(stage, "purge", "-f", "-Q", "kept")

    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "refused to purge kept" in answer.stderr
    assert stage.redis.llen("queue:kept") == 1


def test_a_purge_that_is_allowed_empties_the_queues_it_names_and_no_others(stage: Stage) -> None:
    stage.push_job({"class": "EchoJob"}, "kept")
    stage.push_job({"class": "EchoJob"}, "unwanted")
    allowed = {"BRIDGE_ALLOW_PURGE": "true", "BRIDGE_QUEUES": "kept,unwanted"}

    # It emptied all queues of the settings, though nobody had named one.
    answer = celery(stage, "purge", "-f", **allowed)
    assert (answer.returncode, stage.redis.llen("queue:kept")) == (1, 1)
    assert "name the queue with -Q" in answer.stderr

    answer = celery(stage, "purge", "-f", "-Q", "unwanted", **allowed)
    assert (answer.returncode, stage.redis.exists("queue:unwanted")) == (0, 0), answer.stderr
    assert stage.redis.llen("queue:kept") == 1


def test_a_wrong_secret_takes_no_job_and_is_named_in_the_log(bare_stage: Stage) -> None:
    stage = bare_stage
    stage.start_sidecar(env={"BRIDGE_SIDECAR_SECRET": "s" * 32})
    worker = stage.start_worker(env={"BRIDGE_SIDECAR_SECRET": "w" * 32})
    payload = b'{"class":"EchoJob","args":[],"jid":"secret"}'

    stage.push_raw(payload)

    holds_for(lambda: not stage.ledger.events("secret"), 2, "no job runs")
    assert stage.redis.lrange("queue:default", 0, -1) == [payload]
    assert stage.redis.zcard("retry") + stage.redis.zcard("dead") == 0
    assert "secret" in worker.log.lower(), worker.log


def test_a_worker_waits_for_a_redis_that_is_not_there_and_says_so(tmp_path: Path) -> None:
    port = free_port()
    env = bridge_environment(f"redis://127.0.0.1:{port}/0", f"unix://{tmp_path}/none.sock")
    worker = Process("lonely", [CELERY, "-A", "bridge", "worker", "-c", "1"], tmp_path, env=env)
    try:
        wait_for(lambda: str(port) in worker.log, "the address in the log", 20)
        assert "Traceback" not in worker.log, worker.log
        assert os.path.exists(f"/proc/{worker.pid}")
    finally:
        worker.stop()
