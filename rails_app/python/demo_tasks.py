"""The demo's native tasks: classes that exist in Python only.

Rails pushes them by name (`DemoMix#native`); the worker loads this module through BRIDGE_IMPORTS.
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
    _record("started", self.request.id, [month, options])
    rows = sum(1 for _ in range(options.get("rows", 0)))
    _record("finished", self.request.id, [month, options])
    return rows


def _record(event: str, jid: str, args: list[Any]) -> None:
    row = (event, jid, jid, "ReportJob", "reports", json.dumps(args), os.getpid(), time.time())
    connection = sqlite3.connect(os.environ["BRIDGE_DEMO_DB"], timeout=WAIT_FOR_DATABASE_SECONDS)
    try:
        with connection:
            connection.execute(INSERT, row)
    finally:
        connection.close()
