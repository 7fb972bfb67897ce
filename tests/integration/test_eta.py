"""`eta` of a push and of a retry: a naive one is in the application's `timezone`, which is UTC.

With TZ=America/New_York, `eta=datetime.utcnow() + timedelta(seconds=3)` ran five hours late.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.integration.test_user_settings import run, write
from tests.support.processes import ROOT
from tests.support.stage import Stage
from tests.support.waiting import wait_for


def naive_in(zone: str) -> str:
    """A naive time in 100 s, by the clock of a zone."""
    return f"datetime.now(ZoneInfo('{zone}')).replace(tzinfo=None) + soon"


IMPORTS = (
    "from bridge import app\n"
    "from datetime import UTC, datetime, timedelta, timezone\n"
    "from zoneinfo import ZoneInfo\n"
    "utc, soon = datetime.now(UTC), timedelta(seconds=100)\n"
    "naive = utc.replace(tzinfo=None)\n"
)


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "Asia/Tokyo"])
@pytest.mark.parametrize(
    ("settings", "eta"),
    [
        ("", "naive + soon"),
        ("", "(naive + soon).isoformat()"),
        ("", "utc + soon"),
        ("", "(utc + soon).astimezone(ZoneInfo('Asia/Kolkata'))"),
        ("", "(utc + soon).astimezone(ZoneInfo('Asia/Kolkata')).isoformat()"),
        ("app.conf.timezone = 'Europe/Berlin'", naive_in("Europe/Berlin")),
        ("app.conf.enable_utc = False", "datetime.now() + soon"),
        ("app.config_from_object({'TIME_ZONE': 'Asia/Tokyo'})", naive_in("Asia/Tokyo")),
    ],
)
def test_a_push_is_due_at_its_eta_wherever_the_machine_is(
    bare_stage: Stage, zone: str, settings: str, eta: str
) -> None:
    before = time.time()

    run(bare_stage, f"{IMPORTS}{settings}\napp.send_task('HardJob', args=[], eta={eta})", TZ=zone)

    assert before + 99 < bare_stage.score("schedule") < time.time() + 101


@pytest.mark.parametrize("eta", ["'tomorrow'", "17"])
def test_an_eta_that_is_no_moment_is_refused(bare_stage: Stage, eta: str) -> None:
    printed = run(
        bare_stage,
        f"{IMPORTS}"
        "try:\n"
        f"    app.send_task('HardJob', args=[], eta={eta})\n"
        "except ValueError as error:\n"
        "    print(type(error).__name__, error)\n",
    )

    assert printed.startswith("PushRefused eta is")
    assert bare_stage.redis.zcard("schedule") == 0


@pytest.mark.parametrize("pool", ["bridge", "prefork"])
def test_a_retry_is_due_at_its_naive_eta(bare_stage: Stage, pool: str) -> None:
    write(
        bare_stage.directory,
        eta_app="""
        from datetime import UTC, datetime, timedelta
        from bridge import app

        @app.task(name="LaterJob", bind=True)
        def later(self):
            raise self.retry(eta=datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=100))
        """,
    )
    path = f"{ROOT}:{bare_stage.directory}"
    env = {"PYTHONPATH": path, "TZ": "America/New_York", "BRIDGE_POOL": pool}
    bare_stage.start_worker(module="eta_app", env=env)
    before = time.time()

    bare_stage.push_job({"class": "LaterJob"})

    entry: Callable[[], int] = lambda: bare_stage.redis.zcard("retry")  # noqa: E731
    wait_for(entry, "the retry")
    assert before + 99 < bare_stage.score("retry") < time.time() + 101
