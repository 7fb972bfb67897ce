"""Jobs whose code is in Python and whose middleware is in Ruby: which sidecars get them."""

from __future__ import annotations

from typing import Any

import pytest

from bridge import errors
from bridge.celery import make_app
from bridge.settings import load as load_settings
from bridge.sidecar.address import Address
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import Health, PumaWorker

pytestmark = pytest.mark.usefixtures("no_shared_tasks")

ADDRESS = Address.parse("unix:///run/sidecar.sock")


def fleet(*knows: bool) -> Fleet:
    """One Puma worker for each: whether it is of a release that knows Python code."""
    workers = tuple(
        PumaWorker(ADDRESS, f"{number:016x}", 1, 0, python_code=known) for number, known in enumerate(knows)
    )

    class Probe:
        def ask(self, address: Address) -> Health:
            return Health("ready", "7.3.2", 25, 10_000, 15_552_000, (), (), workers)

    probe: Any = Probe()
    found = Fleet([ADDRESS], probe)
    found.refresh()
    return found


def test_an_older_sidecar_gets_no_python_code() -> None:
    """It would run the Ruby class of that name. Given both releases, then the newer one gets the job."""
    assert fleet(False, True).acquire(python_code=True).worker.python_code
    with pytest.raises(errors.SidecarUnavailable, match="upgrade the sidecar") as refused:
        fleet(False, False).acquire(python_code=True)
    assert refused.value.retry_after_seconds, "the breaker stays closed: other jobs go on"


def test_a_busy_newer_one_is_waited_for() -> None:
    both = fleet(False, True)
    both.acquire(python_code=True)
    with pytest.raises(errors.SidecarUnavailable, match="busy"):
        both.acquire(python_code=True)
    both.acquire()


def test_a_name_that_no_ruby_class_can_have_is_refused() -> None:
    app = make_app(load_settings({}))

    @app.task(name="mytasks.report", shared=False, ruby_middleware=True)
    def report() -> None: ...

    with pytest.raises(errors.ConfigurationError, match="needs a class"):
        app.bridge.task_policy.enforce()


def test_a_running_worker_does_not_change_it() -> None:
    app = make_app(load_settings({}))

    @app.task(name="ReportJob", shared=False)
    def report() -> None: ...

    app.bridge.task_policy.enforce()
    with pytest.raises(errors.ConfigurationError, match="start it again"):
        app.tasks["ReportJob"].ruby_middleware = True
