"""ActiveJobs whose classes moved to Python: docs/move-a-class.md says what stays behind in Ruby."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.command import Bridge
from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import bridge_environment

TASKS = """
import json, os
from celery.exceptions import Ignore
from bridge import app

def note(name, *what):
    with open(os.environ["MOVED_NOTES"], "a") as file:
        file.write(json.dumps([name, *what]) + "\\n")

@app.task(name="InvoiceJob")
def invoice(number, total, note_=None, **more):
    note("InvoiceJob", number, more)

@app.task(name="ImportJob", bind=True)
def import_(self, failures):
    note("ImportJob", self.request.retries)
    if self.request.retries < failures:
        raise self.retry(exc=RuntimeError("busy"), countdown=1)

@app.task(name="ForgetCustomerJob")
def forget(customer):
    note("ForgetCustomerJob", customer)
    raise Ignore()

@app.task(name="StrictJob")
def strict():
    note("StrictJob")
    raise KeyError("dies at once")
"""
PUSH = """
InvoiceJob.perform_later(number: 7, total: "42", note: "thanks")
ImportJob.perform_later(1)
ForgetCustomerJob.perform_later(Customer.create!(name: "Ada", email: "ada@example.com"))
StrictJob.perform_later
"""


def notes(path: Path) -> list[list[Any]]:
    return sorted(map(json.loads, path.read_text().splitlines())) if path.exists() else []


def push(stage: Stage, database: Path, code: str) -> None:
    """Run this code in the Rails app, which pushes."""
    subprocess.run(
        ["bin/rails", "runner", code],
        cwd=ROOT / "rails_app",
        env=clean_environment() | {"REDIS_URL": stage.redis_url, "BRIDGE_DEMO_DB": str(database)},
        check=True,
        timeout=120,
        capture_output=True,
    )


def start_worker(stage: Stage, place: Path, tasks: str) -> None:
    (place / "moved_tasks.py").write_text(tasks)
    env = {
        "BRIDGE_QUEUES": "critical,default,low",
        "BRIDGE_IMPORTS": "moved_tasks",
        "PYTHONPATH": f"{ROOT}:{place}",
        "MOVED_NOTES": str(place / "notes"),
    }
    stage.start_worker(module="bridge", concurrency=4, env=env)


def start_rails(stage: Stage, database: Path) -> Bridge:
    app = {"BRIDGE_DEMO_DB": str(database)}
    sidecar = stage.start_sidecar(require=ROOT / "rails_app", env=app)
    return Bridge(bridge_environment(stage.redis_url, sidecar.url))


def test_what_an_active_job_leaves_behind_in_ruby(bare_stage: Stage, tmp_path: Path) -> None:
    """Given ActiveJobs with retry_on, discard_on and callbacks, then Python runs them by its own rules."""
    stage, written, database = bare_stage, tmp_path / "notes", tmp_path / "app.sqlite3"
    push(stage, database, PUSH)
    start_worker(stage, tmp_path, TASKS)

    wait_for(lambda: len(notes(written)) == 5, "five runs", 60)
    stage.wait_idle()
    assert notes(written) == [
        ["ForgetCustomerJob", "gid://bridge-demo/Customer/1"],
        # retry_on is not looked at: the task names the delay, the payload the number.
        ["ImportJob", 0],
        ["ImportJob", 1],
        ["InvoiceJob", 7, {"note": "thanks"}],
        ["StrictJob"],
    ]
    # Ignore is Python's discard_on: nothing is retried. `sidekiq_options retry: 0` is heeded.
    dead = stage.only("dead")
    assert (dead["wrapped"], dead["error_class"]) == ("StrictJob", "KeyError")
    assert "error_backtrace" not in dead
    assert stage.redis.zcard("retry") == stage.redis.zcard("schedule") == 0
    # No callback of the Ruby class has run.
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT event FROM ledger").fetchall() == []


def test_retries_of_an_active_job_stay_on_their_side(bare_stage: Stage, tmp_path: Path) -> None:
    """Given retry_on in Ruby, which pushes another job, and self.retry in Python, no job changes sides."""
    stage, database = bare_stage, tmp_path / "app.sqlite3"
    bridge = start_rails(stage, database)
    start_worker(stage, tmp_path, TASKS)
    bridge("move", "ImportJob", "--percent", "50", "--no-guard").well()
    wait_for(lambda: stage.worker and "ImportJob moves: 50 %" in stage.worker.log, "the move")
    push(stage, database, "20.times { ImportJob.perform_later(1) }")
    wait_until_equal(lambda: python_runs(tmp_path) + ruby_ends(database), 20, "the first attempts", 60)
    bridge("move", "ImportJob", "--percent", "100").well()

    stage.wait_done(60)
    wait_for(lambda: not stage.redis.zcard("schedule") and not stage.redis.zcard("retry"), "all to end", 60)
    stage.wait_done(60)
    runs = Counter(run for _, run in notes(tmp_path / "notes"))
    assert runs[0] == runs[1] > 0, "each job that began in Python has ended there"
    assert runs[0] + ruby_ends(database) == 20


def python_runs(place: Path) -> int:
    return sum(run == 0 for _, run in notes(place / "notes"))


def ruby_ends(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        (found,) = connection.execute("SELECT count(*) FROM ledger WHERE event = 'imported'").fetchone()
    return int(found)


ACTIVE = {
    "InvoiceJob": ('InvoiceJob.perform_later(number: 7, total: "42", note: "thanks")', {"callbacks"}),
    "ImportJob": ("ImportJob.perform_later(1)", {"retry_on"}),
    "ForgetCustomerJob": (
        'ForgetCustomerJob.perform_later(Customer.create!(name: "Ada", email: "ada@example.com"))',
        {"discard_on", "arguments"},
    ),
    "StatementJob": ('StatementJob.perform_async("acc-1", 100)', set()),
}


def test_the_skeleton_of_a_plan_runs_a_real_payload_as_it_stands(bare_stage: Stage, tmp_path: Path) -> None:
    stage, database = bare_stage, tmp_path / "app.sqlite3"
    bridge = start_rails(stage, database)
    push(stage, database, "; ".join(code for code, _ in ACTIVE.values()))
    written = ""
    for name, (_, wanted) in ACTIVE.items():
        plan = bridge("move", name, "--plan", "--json").well().json
        assert wanted <= {each["subject"] for each in plan["obstacles"]}, name
        assert plan["jobs_read"] == 1, name
        written += plan["skeleton"]
    start_worker(stage, tmp_path, written)

    # Each task takes the arguments of its job, and says what is still to be written.
    wait_until_equal(lambda: stage.redis.zcard("retry"), len(ACTIVE), "retries", 60)
    found = [json.loads(raw) for raw in stage.redis.zrange("retry", 0, -1)]
    assert {each.get("wrapped") or each["class"]: each["error_class"] for each in found} == dict.fromkeys(
        ACTIVE, "NotImplementedError"
    )
