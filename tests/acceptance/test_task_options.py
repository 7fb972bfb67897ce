"""Attributes of a task on real workers: each works, or the worker refuses it in one sentence."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import census
from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import CELERY, bridge_environment

HEAD = "from bridge import app\nfrom tests.support.native_tasks import note\n"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], str]:
    """Writes a user's module, and returns the directory to put on Python's path."""

    def write(text: str, name: str = "usertasks") -> str:
        (tmp_path / f"{name}.py").write_text(HEAD + text)
        return f"{tmp_path}:{ROOT}"

    return write


def start(stage: Stage, path: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a worker that is expected to end by itself."""
    env = clean_environment() | bridge_environment(stage.redis_url, None)
    return subprocess.run(
        [CELERY, "-A", "usertasks", "worker", "-c", "1", *words],
        env=env | {"PYTHONPATH": path, "TEST_LEDGER_HOST": str(stage.ledger.path)},
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


TASK = '@app.task(name="ReportJob", {})\ndef report(): pass\n'

REFUSED: dict[str, tuple[str, str]] = {
    "an early ack": (TASK.format("acks_late=False"), "acks_late = False of the task ReportJob"),
    "an early ack of all": (
        'app.conf.task_annotations = {"*": {"acks_late": False}}\n',
        "acks_late = False in task_annotations, for the task bridge.perform",
    ),
    "an early ack by a base class": (
        'from celery import Task\nclass Early(Task):\n    acks_late = False\n' + TASK.format("base=Early"),
        "acks_late = False of the task ReportJob",
    ),
    "an early ack set on the task": (
        TASK.format("") + "report.acks_late = False\n",
        "acks_late = False of the task ReportJob",
    ),
    "an early ack when all is set up": (
        TASK.format("") + "from celery.signals import celeryd_init\n@celeryd_init.connect\n"
        "def change(**_): report.acks_late = False\n",
        "acks_late = False of the task ReportJob",
    ),
    "copies of a lost job": (
        TASK.format("retry_on_worker_lost=True"),
        "retry_on_worker_lost = True of the task ReportJob",
    ),
    "copies of all lost jobs": (
        "app.conf.task_retry_on_worker_lost = True\n",
        "task_retry_on_worker_lost = True, for the task bridge.perform",
    ),
    "rejects of a lost job": (
        TASK.format("reject_on_worker_lost=True"),
        "reject_on_worker_lost = True of the task ReportJob",
    ),
    "a request class that settles nothing": (
        "from celery.worker.request import Request\nclass Own(Request): pass\n"
        + TASK.format("Request=Own"),
        "of the task ReportJob: it settles no job",
    ),
    "a limit of all Ruby jobs": (
        'app.conf.task_annotations = {"*": {"rate_limit": "5/s"}}\n',
        "rate_limit = '5/s' in task_annotations, for the task bridge.perform",
    ),
    "a default limit": (
        'app.conf.task_default_rate_limit = "5/s"\n',
        "task_default_rate_limit = '5/s', for the task bridge.perform",
    ),
    "options that Sidekiq does not understand": (
        TASK.format('sidekiq_options={"retry": "yes"}'),
        "of the task ReportJob: retry = 'yes': write true, false or a number of retries",
    ),
    "a result backend": (
        'app.conf.result_backend = "redis://:secret@127.0.0.1:1/0"\n',
        "result_backend = 'redis://***@127.0.0.1:1/0' (set in app.conf): the results of tracked jobs",
    ),
    "compressed messages": (
        'app.conf.task_compression = "gzip"\n',
        "task_compression = 'gzip' (set in app.conf): Ruby reads no compressed job",
    ),
    "a broadcast": (
        "from kombu.common import Broadcast\napp.conf.task_queues = [Broadcast('default', unique=False)]\n",
        "the queue default in task_queues is a broadcast, and a Sidekiq job runs once",
    ),
    "a result backend of a task": (TASK.format("backend=object()"), "results are in Sidekiq's Redis"),
    "pickle": (TASK.format('serializer="pickle"'), "serializer = 'pickle' of the task ReportJob"),
    "a task beside the decorator": (
        "from celery import Task\nclass Report(Task):\n    name = 'ReportJob'\n"
        "app.tasks.register(Report())\n",
        "Register it with @app.task or app.register_task",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_worker_refuses_to_start_and_takes_no_job(
    bare_stage: Stage, module: Callable[[str], str], case: str
) -> None:
    text, said = REFUSED[case]
    bare_stage.push_job({"class": "ReportJob"})

    ended = start(bare_stage, module(text))

    assert ended.returncode == 78, ended.stderr
    assert said in ended.stderr.splitlines()[-1]
    assert ended.stderr.splitlines()[-1].startswith("bridge: ")
    assert "Traceback" not in ended.stderr
    assert bare_stage.redis.llen("queue:default") == 1


class TestNames:
    """Tasks without a name, in snake case or of another base were sent to Ruby: NameError, 25 retries."""

    TASKS = """
from celery import Task
from celery.contrib.abortable import AbortableTask

@app.task(bind=True)
def unnamed(self): note(self, "done")

@app.task(name="myapp.clean_up", bind=True)
def dotted(self): note(self, "done")

@app.task(name="send_mail", bind=True)
def snake(self): note(self, "done")

class Plain(Task):
    kept = "kept"

@app.task(name="PlainJob", base=Plain, bind=True)
def plain(self): note(self, "done", self.kept)

@app.task(name="FailingJob", base=Plain)
def failing(): raise ValueError("on purpose")

class Report(Task):
    name = "myapp.Report"
    def run(self): note(self, "done")

report = app.register_task(Report())
"""

    def test_each_runs_in_python(self, bare_stage: Stage, module: Callable[[str], str]) -> None:
        stage, path = bare_stage, module(self.TASKS)
        stage.start_worker(module="usertasks", env={"PYTHONPATH": path})
        names = ("usertasks.unnamed", "myapp.clean_up", "send_mail", "PlainJob", "myapp.Report")

        jids = [stage.push_job({"class": name}) for name in names]

        for jid, name in zip(jids, names, strict=True):
            stage.ledger.wait_for("done", jid)
            assert [line["class"] for line in stage.ledger.lines if line["jid"] == jid] == [name]
        stage.push_job({"class": "FailingJob"})
        wait_for(lambda: stage.redis.zcard("retry") == 1, "the failure in retry")
        assert json.loads(stage.redis.zrange("retry", 0, 0)[0])["error_class"] == "ValueError"
        stage.wait_counters(6, 1)

    def test_a_push_by_delay_comes_back(self, bare_stage: Stage, module: Callable[[str], str]) -> None:
        stage, path = bare_stage, module(self.TASKS)
        stage.start_worker(module="usertasks", env={"PYTHONPATH": path})

        jid = python(stage, path, "import usertasks; print(usertasks.unnamed.delay().id)")

        stage.ledger.wait_for("done", jid)

    @pytest.mark.parametrize("name", ["celery.backend_cleanup", "celery.chord_unlock"])
    def test_no_job_reaches_a_task_of_celerys_own(self, stage: Stage, name: str) -> None:
        stage.push_job({"class": name, "args": [], "retry": True})
        wait_for(lambda: stage.redis.zcard("retry") == 1, "Ruby's NameError in retry")
        assert json.loads(stage.redis.zrange("retry", 0, 0)[0])["error_class"] == "NameError"


def python(stage: Stage, path: str, code: str) -> str:
    env = clean_environment() | bridge_environment(stage.redis_url, None)
    answer = subprocess.run(
        [CELERY.with_name("python"), "-c", code], env=env | {"PYTHONPATH": path},
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def control(stage: Stage, *words: str) -> Any:
    env = clean_environment() | bridge_environment(stage.redis_url, None)
    answer = subprocess.run(
        [CELERY, "-A", "bridge", "control", *words, "--timeout", "3", "--json"],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return answer.stdout + answer.stderr


def test_a_limit_of_all_ruby_jobs_is_refused_with_a_reply_and_they_go_on(stage: Stage) -> None:
    # The jobs began on the timer's thread, lost their slots, and the worker stopped: 2 of 60 jobs in 20 s.
    said = control(stage, "rate_limit", "bridge.perform", "5/m")

    assert "one limit would hold the jobs of all Ruby classes" in said
    assert stage.worker is not None
    before = len(stage.worker.log)
    jids = [stage.push_job({"class": "EchoJob", "args": [n]}) for n in range(20)]
    for jid in jids:
        stage.ledger.wait_for("done", jid)
    assert "Traceback" not in stage.worker.log[before:]
    census.assert_keys_clean(stage.redis)


OWN_COMMAND = """
from celery.worker.control import control_command

@control_command(args=[("name", str)])
def hurry(state, name):
    state.app.tasks[name].acks_late = False
    return {"ok": "hurried"}

@app.task(name="ReportJob", bind=True)
def report(self):
    note(self, "done")
    raise ValueError("on purpose")
"""


def test_a_command_of_the_users_own_that_sets_an_early_ack_is_refused(
    bare_stage: Stage, module: Callable[[str], str]
) -> None:
    stage = bare_stage
    stage.start_worker(module="usertasks", env={"PYTHONPATH": module(OWN_COMMAND)})
    code = "from bridge import app; print(app.control.broadcast('hurry', {'name': 'ReportJob'}, reply=True))"

    said = python(stage, str(ROOT), code)

    assert "acks_late = False for the task ReportJob" in said
    jid = stage.push_job({"class": "ReportJob"})
    stage.ledger.wait_for("done", jid)
    wait_for(lambda: stage.redis.zcard("retry") == 1, "the failure in retry")
    holds_for(lambda: stage.counters() == (1, 1), 0.3, "it failed")


PUSHING = """
from kombu import Exchange, Queue
app.conf.task_queues = [
    Queue("default", Exchange("tasks", type="topic"), routing_key="task.#"),
    Queue("low", Exchange("media"), routing_key="media.video"),
    Queue("high"),
    Queue("mailers"),
]
app.conf.task_routes = {"usertasks.watch": {"exchange": "media", "routing_key": "media.video"}}

@app.task(bind=True)
def watch(self):
    note(self, "done", self.request.headers.get("tenant"), self.request.delivery_info["routing_key"])

@app.task(bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={"done": 5})
"""


class TestPushes:
    """A worker reads a queue whatever its exchange is, and a native task sees what the push said."""

    @pytest.fixture
    def pushing(self, bare_stage: Stage, module: Callable[[str], str]) -> tuple[Stage, str]:
        path = module(PUSHING)
        bare_stage.start_worker(module="usertasks", env={"PYTHONPATH": path})
        return bare_stage, path

    def test_a_queue_of_a_topic_exchange_is_read(self, pushing: tuple[Stage, str]) -> None:
        # The worker subscribed to it: pushed jobs waited without a word.
        stage, _ = pushing
        stage.ledger.wait_for("done", stage.push_job({"class": "NativeEchoJob"}, "default"))

    def test_a_route_by_exchange_and_headers_reach_the_task(self, pushing: tuple[Stage, str]) -> None:
        stage, path = pushing
        push = "usertasks.watch.apply_async(headers={'tenant': 7}, shadow='Watching')"

        jid = python(stage, path, f"import usertasks; print({push}.id)")

        stage.ledger.wait_for("done", jid)
        assert stage.ledger.args(jid) == [7, "low"]

    def test_a_task_that_updates_its_state_untracked_is_done_with_a_warning(
        self, pushing: tuple[Stage, str]
    ) -> None:
        stage, _ = pushing
        before = stage.counters()
        stage.push_job({"class": "usertasks.progress"}, "default")
        wait_until_equal(stage.counters, (before[0] + 1, before[1]), "the job to be done")
        assert stage.worker is not None
        assert "usertasks.progress tells of its progress and is not tracked" in stage.worker.log


OWN_PARTS = """
from bridge.execution.request import SidekiqRequest

class Own(SidekiqRequest):
    def on_success(self, *args, **kwargs):
        note(self.task, "succeeded")
        return super().on_success(*args, **kwargs)

    def on_failure(self, *args, **kwargs):
        note(self.task, "broke")
        return super().on_failure(*args, **kwargs)

@app.task(name="GoodJob", bind=True, Request=Own)
def good(self): note(self, "done")

@app.task(name="BadJob", bind=True, Request="usertasks:Own", sidekiq_options={"retry": 3})
def bad(self): raise ValueError("on purpose")

@app.task(name="LoadingJob", bind=True)
def load(self):
    @app.task(name="LateJob", bind=True)
    def late(self): note(self, "done")
    late.name
    note(self, "done")

@app.task(name="EarlyJob", bind=True)
def load_early(self):
    @app.task(name="TooEarlyJob", acks_late=False)
    def too_early(): pass
    too_early.name
"""


class TestOwnParts:
    @pytest.fixture(params=["bridge", "threads"])
    def stage(self, request: Any, bare_stage: Stage, module: Callable[[str], str]) -> Stage:
        env = {"PYTHONPATH": module(OWN_PARTS), "BRIDGE_POOL": request.param}
        bare_stage.start_worker(module="usertasks", env=env)
        return bare_stage

    def test_a_request_class_derived_from_ours_runs_and_settles_each_job_once(self, stage: Stage) -> None:
        # A class derived from Celery's settled nothing: one job ran 5,456 times in 10 s.
        good, bad = (stage.push_job({"class": name}) for name in ("GoodJob", "BadJob"))

        stage.ledger.wait_for("done", good)
        wait_for(lambda: stage.redis.zcard("retry") == 1, "the failure in retry")

        stage.wait_counters(2, 1)
        assert stage.ledger.count("done", good) == 1
        assert stage.ledger.count("succeeded") + stage.ledger.count("broke") >= 1
        assert json.loads(stage.redis.zrange("retry", 0, 0)[0])["jid"] == bad

    def test_a_task_that_a_job_registers_runs(self, stage: Stage) -> None:
        stage.ledger.wait_for("done", stage.push_job({"class": "LoadingJob"}))
        late = stage.push_job({"class": "LateJob"})
        stage.ledger.wait_for("done", late)
        holds_for(lambda: stage.ledger.count("done", late) == 1, 0.5, "it ran once")

    def test_one_that_loses_jobs_is_refused_where_it_is_registered(self, stage: Stage) -> None:
        stage.push_job({"class": "EarlyJob"})
        wait_for(lambda: stage.redis.zcard("retry") == 1, "the failure in retry")
        entry = json.loads(stage.redis.zrange("retry", 0, 0)[0])
        assert "acks_late = False of the task TooEarlyJob" in entry["error_message"]


OWN_STRATEGY = """
from celery.worker.request import Request

def strategy(task, app, consumer, **options):
    def handle(message, body, ack, reject, callbacks, **more):
        consumer.on_task_request(Request(
            message, on_ack=ack, on_reject=reject, app=app, hostname=consumer.hostname, task=task,
            eventer=consumer.event_dispatcher, connection_errors=consumer.connection_errors,
            body=message.body, headers=message.headers, decoded=True, utc=True,
        ))
    return handle

@app.task(name="GoodJob", bind=True, Strategy="usertasks:strategy")
def good(self): note(self, "done")
"""


def test_a_strategy_whose_request_settles_nothing_runs_no_job_without_end(
    bare_stage: Stage, module: Callable[[str], str]
) -> None:
    # One job ran 8,734 times in 4 s.
    stage = bare_stage
    worker = stage.start_worker(module="usertasks", env={"PYTHONPATH": module(OWN_STRATEGY)})

    jid = stage.push_job({"class": "GoodJob"})

    wait_for(lambda: stage.redis.zcard("dead") == 1, "the job in dead")
    assert json.loads(stage.redis.zrange("dead", 0, 0)[0])["jid"] == jid
    assert "Strategy of the task GoodJob makes a request that settles no job" in worker.log
    assert stage.ledger.count("done", jid) == 0
    stage.wait_idle()
