"""A Django project and a Flask application, built from the blocks of docs/django-flask.md."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.doc_blocks import blocks
from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess, bridge_environment

DOCUMENT = "docs/django-flask.md"

#: More of the project: what a test looks at.
MORE_TASKS = """

import os
from django.db import connection
from tests.support.native_tasks import note


@shared_task(name="OrderLookJob", bind=True)
def look(self):
    note(self, "done", Order.objects.filter(mailed=True).count(), id(connection.connection))


@shared_task(name="OrderBreakJob", bind=True)
def break_it(self):
    Order.objects.count()
    connection.connection.close()
    note(self, "done", id(connection.connection))
"""


def write_blocks(directory: Path, *names: str) -> None:
    """The files that the document shows, by the comment in their first line."""
    for block in blocks(DOCUMENT):
        found = re.match(r"# ([\w/]+\.py)", block.text)
        if found and found[1] in names:
            file = directory / found[1]
            before = file.read_text() if "at its end" in block.text.split("\n", 1)[0] else ""
            file.write_text(before + block.text)


@dataclass
class Project:
    """A project in a directory of its own."""

    stage: Stage
    directory: Path
    name: str

    @property
    def env(self) -> dict[str, str]:
        return {
            **bridge_environment(self.stage.redis_url, None),
            "PYTHONPATH": f"{ROOT}",
            "TEST_LEDGER_HOST": str(self.stage.ledger.path),
        }

    def run(self, *command: str, **env: str) -> str:
        """The last line that a command printed, run in the directory of the project."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.directory,
            env={**clean_environment(), **self.env, **env},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().rpartition("\n")[2]

    def shell(self, program: str, **env: str) -> str:
        """A program in Django's shell."""
        return self.run("manage.py", "shell", "-v", "0", "-c", program, **env)

    def worker(self, *arguments: str, **options: Any) -> WorkerProcess:
        return self.stage.start_worker(
            *arguments, module=self.name, cwd=self.directory, env={"PYTHONPATH": str(ROOT)}, **options
        )


@pytest.fixture
def django(bare_stage: Stage, tmp_path: Path) -> Project:
    """The project of the document, migrated."""
    project = Project(bare_stage, tmp_path, "shop")
    project.run("-m", "django", "startproject", "shop", ".")
    project.run("manage.py", "startapp", "orders")
    names = ("shop/celery.py", "shop/__init__.py", "shop/settings.py")
    write_blocks(tmp_path, *names, "orders/tasks.py", "orders/models.py", "orders/services.py")
    with (tmp_path / "orders/tasks.py").open("a") as tasks:
        tasks.write(MORE_TASKS)
    project.run("manage.py", "makemigrations", "orders")
    project.run("manage.py", "migrate", "-v", "0")
    return project


# -- Django


def test_the_project_of_the_document_pushes_and_runs_jobs(django: Project) -> None:
    # Given a worker of the project, and a sidecar for Ruby jobs
    stage = django.stage
    stage.start_sidecar()
    worker = django.worker("-B", "-s", str(django.directory / "beat"))

    # When the project places an order
    django.shell("from orders.services import place_order; place_order()")
    wait_until_equal(lambda: stage.counters()[0] >= 1, True, "the job to run")

    # Then the task has written to the project's database
    mailed = django.shell("from orders.models import Order; print(Order.objects.filter(mailed=True).count())")
    assert mailed == "1"

    # And Ruby jobs run, beat's schedule is that of the settings, and the time limit is in force
    jid = stage.push_job({"class": "EchoJob", "args": [1]})
    stage.ledger.wait_for("done", jid)
    limit = django.shell("from shop import celery_app; print(celery_app.conf.task_time_limit)")
    assert limit == "600"
    assert worker.terminate() == 0
    assert "native tasks" in worker.log
    assert "OrderMailJob" in worker.log
    assert "Traceback" not in worker.log


def test_a_rollback_pushes_nothing_and_a_commit_pushes_once(django: Project) -> None:
    # delay_on_commit and apply_async_on_commit raised AttributeError.
    program = """
from django.db import transaction
from orders.tasks import order_mail
try:
    with transaction.atomic():
        order_mail.delay_on_commit(1)
        order_mail.apply_async_on_commit((2,), countdown=60)
        raise ValueError
except ValueError:
    pass
with transaction.atomic():
    order_mail.delay_on_commit(3)
    order_mail.apply_async_on_commit((4,), countdown=60)
    print(__import__("shop").celery_app.bridge.store.client.llen("queue:default"))
"""

    assert django.shell(program) == "0"

    assert django.stage.queued == {"queue:default": 1}
    assert b'"args":[3]' in django.stage.redis.lindex("queue:default", 0)
    assert django.stage.only("schedule")["args"] == [4]


@pytest.mark.parametrize("pool", ["bridge", "threads", "prefork"])
def test_a_connection_that_a_task_broke_is_not_used_by_the_next_one(django: Project, pool: str) -> None:
    """The fix-up closes the connections of the task's own thread or process, before and after it."""
    stage = django.stage
    flags = () if pool == "bridge" else ("-P", pool)
    django.worker(*flags, concurrency=1)

    for name in ("OrderBreakJob", "OrderLookJob"):
        stage.ledger.wait_for("done", stage.push_job({"class": name, "args": []}))

    stage.wait_counters(2, 0)


def test_tasks_of_the_project_are_found_however_late_its_settings_are_named(django: Project) -> None:
    """`from bridge import app` is among the first lines; Celery looks for Django while an app is made."""
    django.worker()

    jid = django.stage.push_job({"class": "OrderLookJob", "args": []})

    django.stage.ledger.wait_for("done", jid)


def test_eager_tasks_of_a_django_project_need_no_redis(django: Project) -> None:
    settings = django.directory / "shop/settings.py"
    settings.write_text(settings.read_text() + "\nCELERY_TASK_ALWAYS_EAGER = True\n")

    printed = django.shell(
        "from orders.models import Order\n"
        "from orders.services import place_order\n"
        "print(Order.objects.get(pk=place_order()).mailed)\n",
        BRIDGE_REDIS_URL="redis://127.0.0.1:1/0",
    )

    assert printed == "True"


def test_a_refused_setting_of_django_is_named_as_django_has_it(django: Project) -> None:
    settings = django.directory / "shop/settings.py"
    settings.write_text(settings.read_text() + "\nCELERY_TASK_ACKS_LATE = False\n")

    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "shop", "worker"],
        cwd=django.directory,
        env={**clean_environment(), **django.env},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 78
    assert "(set as CELERY_TASK_ACKS_LATE in django.conf:settings)" in done.stderr


# -- Flask


@pytest.fixture
def flask(bare_stage: Stage, tmp_path: Path) -> Project:
    """The application of the document."""
    write_blocks(tmp_path, "webshop.py", "make_celery.py")
    return Project(bare_stage, tmp_path, "make_celery")


def test_the_flask_application_of_the_document_pushes_and_runs_jobs(flask: Project) -> None:
    stage = flask.stage
    stage.start_sidecar()
    worker = flask.worker()

    # When a request pushes a job
    jid = flask.run(
        "-c",
        "from webshop import create_app\nprint(create_app().test_client().post('/orders/7').json['jid'])",
    )

    # Then it runs within the context of the application, and Ruby jobs run as well
    wait_for(lambda: "Hats 7" in worker.log, "the task's own words")
    assert len(jid) == 24
    ruby = stage.push_job({"class": "EchoJob", "args": [1]})
    stage.ledger.wait_for("done", ruby)
    stage.wait_counters(2, 0)
    assert worker.terminate() == 0
