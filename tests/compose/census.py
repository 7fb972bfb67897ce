"""Prints, as JSON, how the jobs of the demo's mix ended. Runs in a container: the places are volumes and an
internal network. `python -m tests.compose.census LAST` looks at expectations after number LAST."""

import json
import os
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scripts.demo.outcome import Outcome

DATABASE = Path(os.environ.get("BRIDGE_DEMO_DB", "/data/demo.sqlite3"))


JOBS = "SELECT job_key FROM expectations WHERE id > ?"
#: How often LedgerJobs wrote their line: once for each run.
BOOKINGS = f"SELECT COUNT(*) FROM ledger WHERE event = 'booked' AND jid IN ({JOBS})"
#: Runs that began and never ended.
BROKEN_OFF = f"""
SELECT COALESCE(SUM(event = 'started') - SUM(event IN ('finished', 'raised')), 0)
  FROM ledger WHERE job_key IN ({JOBS})
"""


class OutcomeSince(Outcome):
    """Looks at jobs that others enqueued."""

    def __init__(self, last: int) -> None:
        place: Any = SimpleNamespace(database=DATABASE, redis_url=os.environ["REDIS_URL"])
        super().__init__(place)
        self.newest = self._before
        self._before = last


def main() -> None:
    last = int(sys.argv[1])
    outcome = OutcomeSince(last)
    # What is in flight first: what is taken after this look is seen as not ended.
    inflight = outcome.in_flight()
    jobs = outcome.jobs()
    counts = outcome.counts()
    print(
        json.dumps(
            {
                "newest": outcome.newest,
                "inflight": inflight,
                "jobs": [[job.job_class, job.expected, job.actual] for job in jobs],
                "processed": counts.processed,
                "failed": counts.failed,
                "dead": counts.dead,
                "scheduled": counts.scheduled,
                "bookings": ledger(BOOKINGS, last),
                "broken_off": ledger(BROKEN_OFF, last),
            }
        )
    )


def ledger(question: str, last: int) -> int:
    connection = sqlite3.connect(DATABASE, timeout=10)
    try:
        ((number,),) = connection.execute(question, (last,)).fetchall()
    finally:
        connection.close()
    return int(number)


if __name__ == "__main__":
    main()
