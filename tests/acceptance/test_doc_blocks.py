"""Every command block of the documents is run in a fresh directory, or says here why it is not."""

from __future__ import annotations

import ast
import json
import re
import site
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.doc_blocks import Block, Terminal, blocks, programs, tracked_files
from tests.support.processes import ROOT, free_port
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.sidecar_process import JOBS
from tests.support.stage import Stage
from tests.support.waiting import wait_for

#: Blocks that a test cannot run, by their first word, and what runs them instead.
NOT_RUN = {
    "make": "whole suites: CI runs them, and scripts/fresh runs both commands of the README",
    "gem": "a registry of gems is needed; scripts/demo names the same command where it is of use",
}
#: Documents whose blocks are one story, told beside an app.
STORIES = [("README.md",), ("docs/beside-rails.md", "docs/move-a-class.md")]
TOLD = {document for story in STORIES for document in story} | {"docs/django-flask.md"}
HEADER = re.compile(r"[a-zA-Z ]+(  +[a-zA-Z ]+){2,}")


def first_word(block: Block) -> str:
    return block.text.split()[0]


def runnable(*documents: str, language: str = "sh") -> list[Block]:
    found = [block for block in blocks(*documents) if block.language == language]
    return [block for block in found if first_word(block) not in NOT_RUN]


# -- what needs no process


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_a_block_names_its_language_and_is_written_in_it(block: Block) -> None:
    match block.language:
        case "python":
            ast.parse(block.text)
        case "json":
            json.loads(block.text)
        case "ruby":
            subprocess.run(["ruby", "-c"], input=block.text, text=True, check=True, capture_output=True)
        case "sh" | "console" | "text":
            pass
        case other:
            pytest.fail(f"{block} is in {other!r}: name sh, console, python, ruby, json or text")


@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "sh"], ids=str)
def test_a_target_or_script_that_a_block_names_exists(block: Block) -> None:
    for word in re.findall(r"(?<=make )[a-z-]+", block.text):
        assert re.search(rf"^[a-z -]*\b{word}\b[a-z -]*:", (ROOT / "Makefile").read_text(), re.MULTILINE), (
            word
        )
    for name in re.findall(r"\bscripts/[\w-]+", block.text):
        assert (ROOT / name).exists(), name


# -- stories beside an app


@pytest.fixture
def app(redis_server: RedisServer, ruby_root: RubyRoot, tmp_path: Path) -> Iterator[Terminal]:
    """A Rails app of a team, with this repository at vendor/sidekiq-bridge."""
    if not ruby_root.is_system:
        pytest.skip("the app's gems are those of this machine")
    directory = tmp_path / "app"
    checkout = directory / "vendor" / "sidekiq-bridge"
    tracked_files(checkout)
    for part in (checkout / "rails_app").iterdir():
        part.rename(directory / part.name)
    (directory / "app/sidekiq/hard_job.rb").write_text(
        "class HardJob < LedgerJob\n  def perform(*) = nil\nend\n"
    )
    health = free_port()
    settings = {
        "PATH": programs(tmp_path / "bin"),
        "HOME": str(tmp_path),
        "BRIDGE_DEMO_DB": str(tmp_path / "app.sqlite3"),
        "REDIS_URL": redis_server.url_of(9),
        "BRIDGE_HEALTH_BIND": f"127.0.0.1:{health}",
        # What pip would fetch is there; the project itself is built and installed.
        "PYTHONPATH": site.getsitepackages()[0],
        **dict.fromkeys(("PIP_NO_INDEX", "PIP_NO_DEPS", "PIP_DISABLE_PIP_VERSION_CHECK"), "1"),
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say "none"
    }
    run = tmp_path / "run"
    places = {
        "127.0.0.1:6379/0": f"127.0.0.1:{redis_server.port}/9",
        "127.0.0.1:9394": f"127.0.0.1:{health}",
        "/run/app": str(run),
    }
    with redis_server.client(9) as client:
        client.flushdb()
    terminal = Terminal(directory, places, settings, exports=["export USER=$(id -un)"])
    yield terminal
    terminal.stop()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story[0])
def test_the_blocks_of_a_story_work_one_after_another(
    app: Terminal, redis_server: RedisServer, story: tuple[str, ...]
) -> None:
    """Given an app, when a person does what the document shows, then the app's jobs run where it says."""
    for block in blocks(*story):
        match block.language:
            case "ruby":
                with (app.directory / "Gemfile").open("a") as gemfile:
                    gemfile.write(block.text)
                app.do("bundle install", block)
            case "python" if name := re.match(r"# (\w+\.py)\n", block.text):
                (app.directory / name[1]).write_text(block.text)
            case "python":
                program = f"from bridge import app\n{block.text}".replace(", countdown=60", "")
                (app.directory / "push.py").write_text(program)
                app.do(".venv/bin/python push.py", block)
            case "sh" if first_word(block) not in NOT_RUN:
                app.run(block)
                stand_in_for_celery(app.directory)

    with redis_server.client(9) as client:
        client.lpush(
            "queue:reports", '{"class":"ReportJob","args":["2026-01",{}],"jid":"native","retry":true}'
        )
        client.lpush("queue:low", '{"class":"LedgerJob","args":["a",1],"jid":"ruby","retry":true}')
        client.sadd("queues", "reports", "low")
        served = ["reports"] if "move-a-class" in story[-1] else ["reports", "low"]
        wait_for(lambda: not any(client.llen(f"queue:{name}") for name in served), "the jobs to run", 30)
        wait_for(lambda: int(client.get("stat:processed") or 0) >= len(served), "the jobs to end", 30)
        assert client.get("stat:failed") in (None, b"0")


def stand_in_for_celery(directory: Path) -> None:
    """The script that pip would have fetched with Celery."""
    script = directory / ".venv" / "bin" / "celery"
    if script.parent.exists() and not script.exists():
        script.write_text(f"#!{directory}/.venv/bin/python\nfrom celery.__main__ import main\nmain()\n")
        script.chmod(0o755)


# -- commands for a bridge that runs


@pytest.fixture(scope="module")
def running(
    redis_server: RedisServer, ruby_root: RubyRoot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Terminal]:
    """A bridge at work, with jobs to look at."""
    stage = Stage(redis_server, ruby_root, database=8)
    directory = tmp_path_factory.mktemp("running")
    port, own = free_port(), free_port()
    sidecar = stage.start_sidecar(arguments=("--metrics-bind", f"tcp://127.0.0.1:{port}"))
    lease = {"BRIDGE_LEASE_SECONDS": "3"}
    stage.start_worker(env=lease)
    stage.push_job({"class": "ReportJob", "args": []}, "reports")
    failed = {"class": "OldJob", "args": [], "error_message": "refused", "error_class": "E", "retry_count": 1}
    for place in ("retry", "dead"):
        stage.redis.zadd(place, {json.dumps({**failed, "jid": place, "queue": "default"}): 2e9})
    (directory / "mytasks.py").write_text("")
    (directory / "myschedule.py").write_text("from bridge import app\n")
    settings = {
        "PATH": programs(directory / "bin"),
        "PYTHONPATH": str(ROOT),
        "BRIDGE_REDIS_URL": stage.redis_url,
        "BRIDGE_SIDECAR_URL": sidecar.url,
        "BRIDGE_SIDECAR_BIND": f"tcp://127.0.0.1:{own}",
        "REDIS_URL": stage.redis_url,
        "TEST_LEDGER": str(stage.ledger.path),
        **lease,
    }
    places = {
        "/run/app/sidecar.sock": str(sidecar.socket),
        "127.0.0.1:9292": f"127.0.0.1:{port}",
    }
    terminal = Terminal(directory, places, settings)
    yield terminal
    terminal.stop()
    stage.stop()


@pytest.mark.parametrize("block", runnable(language="console"), ids=str)
def test_a_transcript_is_what_the_command_prints(running: Terminal, block: Block) -> None:
    """The commands are run; the heads of their tables are as the document shows them."""
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", block.text, re.MULTILINE):
        typed = "".join(f"{answer}\n" for answer in re.findall(r"\[y/N\]: (\w+)", shown))
        said = " ".join(running.do(command, block, typed, good=(0, 1)).split())
        for line in filter(HEADER.fullmatch, shown.splitlines()):
            assert " ".join(line.split()) in said, f"{block}: {command}\n{said}"


@pytest.mark.parametrize(
    "block",
    [block for block in runnable() if block.document not in TOLD | {"sidecar/README.md"}],
    ids=str,
)
def test_a_block_of_commands_works_beside_a_bridge_that_runs(running: Terminal, block: Block) -> None:
    running.run(block)
    running.stop()


@pytest.mark.parametrize("block", runnable("sidecar/README.md"), ids=str)
def test_the_sidecars_commands_start_it(app: Terminal, tmp_path: Path, block: Block) -> None:
    """Both ways of its README, on addresses of this machine."""
    (tmp_path / "run").mkdir()
    checkout = app.directory / "vendor/sidekiq-bridge"
    app.places = {
        **app.places, "sidecar/bin/": f"{checkout}/sidecar/bin/", "/srv/app": str(app.directory),
        "jobs.rb": str(JOBS), "--require .": f"--require {app.directory}",
    }  # fmt: skip
    app.settings = {
        **app.settings,
        "BRIDGE_SIDECAR_BIND": f"tcp://127.0.0.1:{free_port()}",
        "BRIDGE_SIDECAR_SECRET": "a secret of this test",
        "TEST_LEDGER": str(tmp_path / "ledger"),
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    if "bundle" in block.text:
        with (app.directory / "Gemfile").open("a") as gemfile:
            gemfile.write(next(b.text for b in blocks("sidecar/README.md") if b.language == "ruby"))
        app.do("bundle install", block)
    app.run(block)
