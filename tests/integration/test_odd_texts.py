"""Text on its way into another syntax: passwords and addresses in URLs, names in logs of another encoding.

`redis://:p%2Fss@host/0` and `redis://[::1]:6379/0` ended in a traceback: the URL for Celery and Flower had no
escapes; the log then showed user and password. On an ASCII stdout one class with an
umlaut cost a whole batch of log lines.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from bridge.celery import make_app
from bridge.errors import ConfigurationError
from bridge.settings import load as load_settings
from tests.integration.test_user_settings import write
from tests.support.command import Bridge
from tests.support.ledger import Ledger
from tests.support.processes import ROOT, clean_environment
from tests.support.redis_server import RedisServer
from tests.support.stage import Stage
from tests.support.waiting import wait_for
from tests.support.worker_process import CELERY, WorkerProcess

SECRETS = ["p/ss", "p@ss:w%2Fx", "#?[]& +ü'\"\\"]
USERS = ["", "a/b@c:d", "ü ser"]


def uri(url: str, *, secret: bool) -> str:
    app = make_app(load_settings({"BRIDGE_REDIS_URL": url}))
    return str(app.connection_for_write().as_uri(include_password=secret))


@pytest.mark.parametrize("host", ["127.0.0.1:6380", "[::1]:6380", "redis.example:6380"])
@pytest.mark.parametrize("password", SECRETS)
@pytest.mark.parametrize("user", USERS)
def test_the_url_for_celery_and_flower_is_the_one_of_the_settings(
    user: str, password: str, host: str
) -> None:
    url = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@{host}/3"

    assert uri(url, secret=True) == url
    assert password not in uri(url, secret=False)
    assert uri(url, secret=False) == f"redis://{quote(user, safe='')}:**@{host}/3"


@pytest.mark.parametrize("host", ["127.0.0.1:6380", "[::1]:6380"])
def test_no_mask_is_shown_where_there_is_no_password(host: str) -> None:
    # Logs said `Connected to redis://***@127.0.0.1` of a Redis without one.
    assert uri(f"redis://{host}/0", secret=False) == f"redis://{host}/0"


def test_a_slash_in_a_password_is_explained_without_it() -> None:
    with pytest.raises(ConfigurationError, match="a / in a user or password is written %2F") as refusal:
        load_settings({"BRIDGE_REDIS_URL": "redis://:hun/ter2@127.0.0.1:1/0"})

    assert "ter2" not in str(refusal.value)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis on IPv6, too."""
    server = RedisServer(tmp_path, "--bind", "127.0.0.1", "::1", "--save", "")
    yield server
    server.stop()


@pytest.mark.parametrize("password", SECRETS)
def test_a_worker_an_inspection_and_a_push_use_such_a_url(
    guarded: RedisServer, tmp_path: Path, password: str
) -> None:
    # Given a user whose name and password need escapes, and an address of IPv6
    with guarded.client() as admin:
        admin.execute_command("ACL", "SETUSER", "a/b@c:d", "on", f">{password}", "~*", "&*", "+@all")
    url = f"redis://a%2Fb%40c%3Ad:{quote(password, safe='')}@[::1]:{guarded.port}/0"
    ledger = Ledger(tmp_path / "ledger")
    env = {"BRIDGE_REDIS_URL": url, "TEST_LEDGER_HOST": str(ledger.path)}
    worker = WorkerProcess(tmp_path, guarded.url, f"unix://{tmp_path}/none.sock", env=env)

    # When a job is pushed with the command, and Celery's own command asks the worker
    settings = {"BRIDGE_REDIS_URL": url, "BRIDGE_SIDECAR_URL": f"unix://{tmp_path}/none.sock"}
    jid = Bridge(settings)("push", "NativeEchoJob", "[]").well().out.strip()
    ledger.wait_for("done", jid)
    words = [CELERY, "-A", "bridge", "inspect", "stats", "--timeout", "3"]
    answer = subprocess.run(
        words, env={**clean_environment(), **env}, cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    # Then all reach it, and neither shows the password
    assert answer.returncode == 0, answer.stderr
    assert worker.terminate() == 0
    assert "a/b@c:d" not in worker.log
    for shown in (worker.log, answer.stdout, answer.stderr):
        assert password not in shown
        assert quote(password, safe="") not in shown


# -- encodings

TASKS = """
from bridge import app

@app.task(name="Übersicht")
def overview(*args): ...

@app.task(name="PlainJob")
def plain(*args): ...
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("target", ["stdout", "file"])
def test_no_line_is_lost_to_a_character_that_the_log_lacks(
    bare_stage: Stage, encoding: str, target: str
) -> None:
    write(bare_stage.directory, own_app=TASKS)
    file = bare_stage.directory / "worker-file.log"
    env = {"PYTHONPATH": f"{ROOT}:{bare_stage.directory}", "PYTHONIOENCODING": encoding}
    env |= {"BRIDGE_LOG_FILE": str(file)} if target == "file" else {}
    worker = bare_stage.start_worker(module="own_app", env=env, name="celery")

    # A class with an umlaut, one with half a surrogate pair in its place, and a plain one: in one batch
    odd = [f"{n:024x}" for n in range(1, 7)]
    for n, jid in enumerate(odd):
        name = ["Übersicht", "PlainJob"][n % 2]
        bare_stage.push_job({"class": name, "args": [], "jid": jid, "queue": "default"})
    bare_stage.push_raw('{"class":"PlainJob","args":[],"jid":"half \\\\ud800 pair"}'.replace("\\\\", "\\"))
    bare_stage.wait_counters(7, 0)
    assert worker.terminate() == 0

    log = file.read_text(errors="replace") if target == "file" else worker.log
    assert all(f"{jid}" in log for jid in odd)
    assert log.count(": done") == 7
    assert "half" in log
    assert "UnicodeEncodeError" not in worker.log + log


def test_a_table_is_printed_on_a_terminal_without_umlauts(bare_stage: Stage) -> None:
    bare_stage.push_job({"class": "Übersicht", "args": []})
    payload = json.dumps({"class": "Übersicht", "args": [], "jid": "b" * 24, "error_message": "schön"})
    bare_stage.redis.zadd("retry", {payload: 2e9})

    env = {"PYTHONIOENCODING": "ascii"}
    bridge = Bridge({"BRIDGE_REDIS_URL": bare_stage.redis_url})
    for words in (("jobs", "list", "retry"), ("jobs", "show", "b" * 24), ("queues",), ("status",)):
        answer = wait_for(lambda w=words: bridge.outside(*w, env=env), "an answer")
        assert "UnicodeEncodeError" not in answer.err
        assert answer.code in (0, 1)
