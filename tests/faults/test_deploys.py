"""A rolling restart under load: nothing is lost, nothing runs twice, no key is left behind."""

from __future__ import annotations

import pytest

from tests.faults.report import Report
from tests.faults.rig import Rig
from tests.faults.settle import settle_once


# It starts the whole stack twice.
@pytest.mark.timeout(300)
@pytest.mark.short
def test_a_rolling_restart_of_workers_and_sidecars_is_not_noticed(rig: Rig, report: Report) -> None:
    with rig.feeding():
        for name in ("own0", "own1", "prefork"):
            rig.wait_more_done(10)
            old = rig.workers.pop(name)
            identity = old.identity
            assert old.terminate() == 0
            assert not list(rig.redis.scan_iter(f"*{identity}*"))
            assert rig.redis.zscore("bridge:lease", identity) is None
            rig.add_worker(name, *(("-P", "prefork") if name == "prefork" else ()), concurrency=8)
        for name in ("car0", "car1"):
            rig.wait_more_done(10)
            sidecar = rig.sidecars.pop(name)
            sidecar.process.stop(20)
            assert sidecar.process.returncode == 0
            rig.add_sidecar(name)
        rig.wait_more_done(20)

    assert rig.redis.zcard("bridge:lease") == 3
    settle_once(rig, report, "deploy: workers and sidecars one after the other", None)
    rig.workers.pop("prefork").terminate()
