"""ActiveJobs whose classes moved to Python: docs/move-a-class.md says what stays behind in Ruby."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.waiting import wait_for

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


def test_what_an_active_job_leaves_behind_in_ruby(bare_stage: Stage, tmp_path: Path) -> None:
    """Given ActiveJobs with retry_on, discard_on and callbacks, then Python runs them by its own rules."""
    stage, written, database = bare_stage, tmp_path / "notes", tmp_path / "app.sqlite3"
    (tmp_path / "moved_tasks.py").write_text(TASKS)
    app = {"REDIS_URL": stage.redis_url, "BRIDGE_DEMO_DB": str(database)}
    subprocess.run(
        ["bin/rails", "runner", PUSH],
        cwd=ROOT / "rails_app",
        env=clean_environment() | app,
        check=True,
        timeout=120,
        capture_output=True,
    )

    worker = {
        "BRIDGE_QUEUES": "critical,default",
        "BRIDGE_IMPORTS": "moved_tasks",
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "MOVED_NOTES": str(written),
    }
    stage.start_worker(module="bridge", concurrency=4, env=worker)

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
