"""A user's own Celery configuration, by every path that Celery has: it works, or the worker refuses it.

A configuration of the user's own used to replace ours. `app.conf.include = [...]` left a worker up that ran
no Ruby job (`NotRegistered: bridge.perform`), `broker_transport_options` ended in KeyError 'bridge', and
`config_from_object` in a refusal of a `task_acks_late = False` that the user had never written.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.worker_process import CELERY, WorkerProcess, bridge_environment

#: A user's task, in a module of its own.
TASKS = """
    from tests.support.native_tasks import note
    from bridge import app

    @app.task(name="OwnJob", bind=True)
    def own(self, *args):
        note(self, "done", *args)
"""


def write(directory: Path, **modules: str) -> None:
    """Modules of the user's, as ``name=text``."""
    for name, text in modules.items():
        lines = text.splitlines()
        indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        (directory / f"{name}.py").write_text("\n".join(line[indent:] for line in lines) + "\n")


@pytest.fixture
def start(bare_stage: Stage) -> Callable[..., WorkerProcess]:
    """Starts a worker of the module ``own_app``, with the modules that are given as text."""

    def start(
        *arguments: str, env: dict[str, str] | None = None, cwd: Path = ROOT, **modules: str
    ) -> WorkerProcess:
        write(bare_stage.directory, **modules)
        path = {"PYTHONPATH": f"{ROOT}:{bare_stage.directory}"}
        env = {**path, **(env or {})}
        return bare_stage.start_worker(*arguments, module="own_app", env=env, cwd=cwd)

    return start


def refused(stage: Stage, *arguments: str, env: dict[str, str] | None = None, **modules: str) -> str:
    """The sentence with which a worker of ``own_app`` ends at its start, with exit status 78."""
    write(stage.directory, **modules)
    done = subprocess.run(
        [CELERY, "-A", "own_app", *arguments],
        env={
            **clean_environment(),
            **bridge_environment(stage.redis_url, None),
            "PYTHONPATH": f"{ROOT}:{stage.directory}",
            "BRIDGE_REDIS_URL": stage.redis_url,
            **(env or {}),
        },
        cwd=stage.directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("bridge: ")]
    assert done.returncode == 78
    return sentence


# -- what the user sets is merged with ours


@pytest.mark.parametrize(
    "configuration",
    [
        'app.conf.include = ["own_tasks"]',
        'app.conf.imports = ("own_tasks",)',
        'app.conf.update(include=["own_tasks"])',
        'app.config_from_object({"include": ["own_tasks"]})',
        'app.config_from_object("own_config")',
        'app.config_from_object("own_old_config")',
        'app.config_from_object("own_django", namespace="CELERY")',
        'app.autodiscover_tasks(["own_tasks"], related_name=None)',
    ],
)
def test_own_modules_come_beside_ours_and_ruby_jobs_run(
    bare_stage: Stage, start: Callable[..., WorkerProcess], configuration: str
) -> None:
    # Given a configuration of the user's own, by one of Celery's ways
    bare_stage.start_sidecar()
    worker = start(
        own_tasks=TASKS,
        own_config='include = ["own_tasks"]\ntask_serializer = "json"\naccept_content = ["json"]',
        own_old_config='CELERY_INCLUDE = ["own_tasks"]\nCELERY_ENABLE_UTC = True',
        own_django='CELERY_INCLUDE = ["own_tasks"]\nCELERY_TASK_TRACK_STARTED = True',
        own_app=f"from bridge import app\n{configuration}",
    )

    # When jobs of both kinds come
    ruby = bare_stage.push_job({"class": "EchoJob", "args": [1]})
    own = bare_stage.push_job({"class": "OwnJob", "args": [2]})

    # Then both run, and our settings are in force
    bare_stage.ledger.wait_for("done", ruby)
    bare_stage.ledger.wait_for("done", own)
    bare_stage.wait_counters(2, 0)
    assert worker.terminate() == 0
    assert "ERROR" not in worker.log


def test_transport_options_are_merged_and_those_without_meaning_are_named(
    bare_stage: Stage, start: Callable[..., WorkerProcess]
) -> None:
    worker = start(
        own_app="""
        from tests.support.native_tasks import app
        app.conf.broker_transport_options = {"visibility_timeout": 3600, "socket_timeout": 3}
        """
    )

    jid = bare_stage.push_job({"class": "NativeEchoJob"})

    bare_stage.ledger.wait_for("done", jid)
    assert "broker_transport_options: socket_timeout, visibility_timeout have no effect" in worker.log


def test_settings_without_an_effect_are_named_with_the_place_that_set_them(
    start: Callable[..., WorkerProcess],
) -> None:
    worker = start(
        own_config="""
        worker_log_format = "%(message)s"
        result_extended = True
        broker_heartbeat = 10
        worker_enable_soft_shutdown_on_idle = True
        """,
        own_app='from bridge import app\napp.config_from_object("own_config")',
    )

    for part in (
        "worker_log_format (set in own_config) has no effect: write BRIDGE_LOG_FORMAT",
        "result_extended (set in own_config) has no effect: the results of tracked jobs are JSON in",
        "broker_heartbeat (set in own_config) has no effect",
        "worker_enable_soft_shutdown_on_idle (set in own_config) has no effect: write BRIDGE_SHUTDOWN_",
    ):
        assert part in worker.log
    assert worker.log.count("has no effect") == 4


def test_a_worker_without_settings_of_the_user_s_own_warns_of_nothing(bare_stage: Stage) -> None:
    assert "no effect" not in bare_stage.start_worker().log


# -- what contradicts us is refused, with the place that set it


@pytest.mark.parametrize(
    ("configuration", "place"),
    [
        ("app.conf.task_acks_late = False", "in app.conf"),
        ("app.config_from_object({'task_acks_late': False})", "in the dict of config_from_object"),
        ("app.config_from_object('own_config')", "in own_config"),
        ("app.config_from_object('own_old')", "as CELERY_ACKS_LATE in own_old"),
        (
            "app.config_from_object('own_django', namespace='CELERY')",
            "as CELERY_TASK_ACKS_LATE in own_django",
        ),
    ],
)
def test_a_refusal_names_who_set_what(bare_stage: Stage, configuration: str, place: str) -> None:
    sentence = refused(
        bare_stage,
        "worker",
        own_config="task_acks_late = False",
        own_old="CELERY_ACKS_LATE = False",
        own_django="CELERY_TASK_ACKS_LATE = False",
        own_app=f"from bridge import app\n{configuration}",
    )

    assert f"task_acks_late = False (set {place}): a job would be settled before it has run" in sentence


def test_settings_on_the_command_line_work_and_are_named(bare_stage: Stage) -> None:
    sentence = refused(bare_stage, "worker", "--", "task.acks_late=false", own_app="from bridge import app")

    assert "task_acks_late = False (set on the command line)" in sentence


@pytest.mark.parametrize("way", ["option", "environment", "short", "setting"])
@pytest.mark.parametrize("command", [("worker",), ("inspect", "ping")])
def test_another_broker_is_refused(bare_stage: Stage, way: str, command: tuple[str, ...]) -> None:
    # `-b redis://elsewhere` was accepted, and the worker read the Redis of BRIDGE_REDIS_URL.
    url = "redis://user:hidden@localhost:1/9"
    options = ("-b", url) if way == "option" else ()
    variable = {"environment": "CELERY_BROKER_URL", "short": "BROKER_URL"}.get(way)
    env = {variable: url} if variable else {}
    own = f"app.conf.broker_url = {url!r}" if way == "setting" else ""

    sentence = refused(bare_stage, *options, *command, env=env, own_app=f"from bridge import app\n{own}")

    assert "broker_url = 'redis://***@localhost:1/9', set in" in sentence
    assert "write it into BRIDGE_REDIS_URL, or remove it" in sentence
    assert "hidden" not in sentence
    assert variable is None or variable in sentence


def test_the_same_broker_may_be_named_again(bare_stage: Stage, start: Callable[..., WorkerProcess]) -> None:
    """Django's CELERY_BROKER_URL may stay as it is."""
    start(
        own_app="from tests.support.native_tasks import app", env={"CELERY_BROKER_URL": bare_stage.redis_url}
    )
    jid = bare_stage.push_job({"class": "NativeEchoJob"})

    bare_stage.ledger.wait_for("done", jid)


@pytest.mark.parametrize(
    ("configuration", "options", "sentence"),
    [
        ("worker_direct = True", (), "worker_direct = True (set in app.conf): Sidekiq knows no queue"),
        ("event_serializer = 'pickle'", (), "event_serializer = 'pickle' (set in app.conf): a client"),
        ("worker_consumer = 'celery.worker.consumer:Consumer'", (), "Derive it from bridge.worker.consumer"),
        ("worker_pool = 'threads'", ("-P", "prefork"), "contradicts -P prefork: remove one"),
        ("worker_pool = 'solo'", ("--pool=prefork",), "contradicts --pool=prefork: remove one"),
        ("result_backend = 'redis://x'", (), "result_backend = 'redis://x' (set in app.conf): the results"),
    ],
)
def test_settings_that_no_worker_can_have_are_refused(
    bare_stage: Stage, configuration: str, options: tuple[str, ...], sentence: str
) -> None:
    own = f"from bridge import app\napp.conf.{configuration}"
    assert sentence in refused(bare_stage, "worker", *options, own_app=own)


def test_a_result_backend_of_the_environment_is_refused(bare_stage: Stage) -> None:
    # `--result-backend redis://...` was accepted without a word.
    own = "from bridge import app"
    sentence = refused(bare_stage, "--result-backend", "redis://:pw@x", "worker", own_app=own)
    assert "result_backend = 'redis://***@x' (set in CELERY_RESULT_BACKEND (or on" in sentence


def test_two_settings_that_say_two_things_are_refused(bare_stage: Stage) -> None:
    sentence = refused(
        bare_stage,
        "worker",
        env={"BRIDGE_CONCURRENCY": "3"},
        own_app="from bridge import app\napp.conf.worker_concurrency = 4",
    )

    assert "worker_concurrency = 4 (set in app.conf) contradicts BRIDGE_CONCURRENCY: remove one" in sentence


# -- modules that cannot be loaded

BROKEN = {
    "unclosed": ("x = (1,\ndef f(): pass", "unclosed.py:1 cannot be read: SyntaxError: '(' was never closed"),
    "unknown": ("\nimport nothing_such", "unknown.py:2 raises ModuleNotFoundError: No module"),
    "divides": ("1 / 0", "divides.py:1 raises ZeroDivisionError: division by zero"),
}  # fmt: skip


@pytest.mark.parametrize("way", ["BRIDGE_IMPORTS", "include", "-I"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_module_that_cannot_be_loaded_is_named_with_file_and_line(
    bare_stage: Stage, way: str, name: str
) -> None:
    # A module of BRIDGE_IMPORTS with a syntax error ended in a traceback, again at each restart.
    text, reason = BROKEN[name]
    env = {"BRIDGE_IMPORTS": name} if way == "BRIDGE_IMPORTS" else {}
    own = f"app.conf.include = ['{name}']" if way == "include" else ""
    options = ("-I", name) if way == "-I" else ()

    sentence = refused(
        bare_stage, "worker", *options, env=env, own_app=f"from bridge import app\n{own}", **{name: text}
    )

    place = "include (set in app.conf)" if way == "include" else way
    assert sentence.startswith(f"bridge: {place} names {name}, and ")
    assert reason in sentence


# -- the other ways


def test_the_module_of_celery_config_module_is_read(bare_stage: Stage) -> None:
    sentence = refused(
        bare_stage,
        "--config",
        "own_config",
        "worker",
        own_config="worker_prefetch_multiplier = 4",
        own_app="from bridge import app",
    )

    assert "worker_prefetch_multiplier = 4 (set in own_config (CELERY_CONFIG_MODULE))" in sentence


def test_a_celeryconfig_that_is_not_named_is_told_of(
    bare_stage: Stage, start: Callable[..., WorkerProcess]
) -> None:
    place = bare_stage.directory
    log = start(own_app="from bridge import app", celeryconfig="task_time_limit = 5", cwd=place).log
    assert f"celeryconfig.py in {place} is not read: name it with --config celeryconfig" in log


def test_a_celeryconfig_that_is_named_is_read(bare_stage: Stage, start: Callable[..., WorkerProcess]) -> None:
    own = "from bridge import app\napp.config_from_object('celeryconfig')"
    first = {"PYTHONPATH": f"{bare_stage.directory}:{ROOT}"}  # the checkout has one, too
    worker = start(own_app=own, celeryconfig="result_extended = True", cwd=bare_stage.directory, env=first)
    assert "is not read" not in worker.log
    assert "result_extended (set in celeryconfig)" in worker.log


def test_a_loader_of_the_user_s_own_is_used(bare_stage: Stage, start: Callable[..., WorkerProcess]) -> None:
    bare_stage.start_sidecar()
    start(
        own_tasks=TASKS,
        own_loader="""
        from celery.loaders.app import AppLoader

        class Loader(AppLoader):
            def read_configuration(self, **_):
                return {"include": ["own_tasks"]}
        """,
        own_app="from bridge import app",
        env={"CELERY_LOADER": "own_loader.Loader"},
    )
    ruby = bare_stage.push_job({"class": "EchoJob", "args": [1]})
    own = bare_stage.push_job({"class": "OwnJob", "args": [2]})

    bare_stage.ledger.wait_for("done", ruby)
    bare_stage.ledger.wait_for("done", own)


def run(stage: Stage, program: str, **env: str) -> str:
    """The last line that a program printed in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **clean_environment(),
            **bridge_environment(stage.redis_url, None),
            "PYTHONPATH": f"{ROOT}:{stage.directory}",
            "TEST_LEDGER_HOST": os.devnull,
            **env,
        },
        cwd=stage.directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().rpartition("\n")[2]


def test_a_change_after_the_first_use_keeps_the_broker(bare_stage: Stage) -> None:
    """Celery reads its configuration at the first use, and again at a later config_from_object."""
    printed = run(
        bare_stage,
        "from bridge import app\n"
        "app.conf.task_default_queue\n"
        "app.config_from_object({'task_default_queue': 'low'})\n"
        "app.conf.broker_transport_options = {'visibility_timeout': 1}\n"
        "app.send_task('HardJob', args=[1])\n"
        "app.connection_for_write()\n"
        "print(app.conf.task_acks_late, app.conf.broker_transport_options['global_keyprefix'])\n",
    )

    assert printed == "True queue:"
    assert bare_stage.queued == {"queue:low": 1}


def test_a_shared_task_of_a_plain_process_is_pushed_to_sidekiq(bare_stage: Stage) -> None:
    # It went to amqp://localhost.
    printed = run(
        bare_stage,
        "from bridge import app\n"
        "from celery import shared_task\n"
        "@shared_task(name='ReportJob')\n"
        "def report(number): ...\n"
        "import threading\n"
        "thread = threading.Thread(target=report.delay, args=(7,))\n"
        "thread.start(), thread.join()\n"
        "print(report.delay(8).id)\n",
    )

    assert len(printed) == 24
    assert bare_stage.queued == {"queue:default": 2}


def test_another_application_of_the_process_keeps_its_shared_tasks(bare_stage: Stage) -> None:
    printed = run(
        bare_stage,
        "from celery import Celery, shared_task\n"
        "other = Celery('other', broker='memory://')\n"
        "from bridge import app\n"
        "@shared_task(name='ReportJob')\n"
        "def report(number): ...\n"
        "report.delay(8)\n"
        "print(report.app.main)\n",
    )

    assert printed == "other"
    assert bare_stage.queued == {}
