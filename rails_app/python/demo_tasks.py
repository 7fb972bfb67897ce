"""The demo's native tasks: one class that exists in Python only, and one that moves to Python.

The worker loads this module through BRIDGE_IMPORTS.
"""

import json
import os
import sqlite3
import time
from typing import Any

from celery import Task

from bridge import app

WAIT_FOR_DATABASE_SECONDS = 10
INSERT = """INSERT INTO ledger (event, jid, job_key, job_class, queue, args, runner, pid, at)
            VALUES (?, ?, ?, ?, ?, ?, 'python', ?, ?)"""


@app.task(name="ReportJob", bind=True)
def report(self: Task, month: str, options: dict[str, Any]) -> int:
    """Count the report's rows, with a line in the ledger at both ends as a Ruby job has them."""
    _record(self, "started", month, options)
    rows = sum(1 for _ in range(options.get("rows", 0)))
    _record(self, "finished", month, options)
    return rows


@app.task(name="StatementJob", bind=True, shadow_safe=True)
def statement(self: Task, account: str, cents: int) -> str:
    """Return what the Ruby class returns. The ledger is left alone in a shadow of a Ruby run."""
    if not self.is_shadow:
        _record(self, "started", account, cents)
        _record(self, "finished", account, cents)
    return f"{account}: {cents}"


def _record(task: Task, event: str, *args: Any) -> None:
    jid, queue = task.request.id, task.request.delivery_info["routing_key"]
    row = (event, jid, jid, task.name, queue, json.dumps(args), os.getpid(), time.time())
    connection = sqlite3.connect(os.environ["BRIDGE_DEMO_DB"], timeout=WAIT_FOR_DATABASE_SECONDS)
    try:
        with connection:
            connection.execute(INSERT, row)
    finally:
        connection.close()
