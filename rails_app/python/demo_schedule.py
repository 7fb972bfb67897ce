"""The demo's periodic jobs: Celery's beat enqueues them, Ruby and Python run them.

For apps without sidekiq-cron or sidekiq-scheduler: ``celery -A demo_schedule beat``, once for each Redis.
"""

from bridge import app

app.conf.beat_schedule = {
    "a ledger entry in Ruby": {"task": "LedgerJob", "schedule": 20.0, "args": ("beat", 1)},
    "a report in Python": {
        "task": "ReportJob",
        "schedule": 30.0,
        "args": ("2026-01", {"rows": 3}),
        "options": {"queue": "reports"},
    },
}
