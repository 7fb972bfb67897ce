from __future__ import annotations

from typing import Any

import pytest

from bridge.sidecar import gems
from bridge.sidecar.gems import Fare, Verdict
from bridge.sidecar.health import Health


def health(**more: Any) -> Health:
    return Health(
        status="ready",
        sidekiq_version="7.3.2",
        max_retries=25,
        dead_max_jobs=10_000,
        dead_timeout_seconds=100,
        client_middleware=(),
        cron=(),
        workers=(),
        **more,
    )


def fare_of(name: str, *bare: str) -> Fare:
    [found] = gems.fares(health(gems={name: "1.0"}), bare)
    return found


@pytest.mark.parametrize("name", ["sidekiq-cron", "sidekiq_alive", "job-iteration", "judoscale-sidekiq"])
def test_gems_that_need_no_middleware_work_beside_native_tasks(name: str) -> None:
    assert fare_of(name, "ReportJob").verdict is Verdict.WORKS


def test_a_gem_of_middleware_works_while_every_job_passes_it() -> None:
    assert fare_of("sidekiq-unique-jobs").verdict is Verdict.WORKS


def test_a_gem_of_middleware_loses_the_native_tasks_outside_of_it_and_their_names_are_told() -> None:
    found = fare_of("sidekiq-unique-jobs", "ReportJob", "Admin::ExportJob")

    assert found.verdict is Verdict.PARTLY
    assert "no run of Admin::ExportJob, ReportJob" in found.seen
    assert "ruby_middleware=True" in found.cure
    assert not found.refuses


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ({"fetch": "OwnFetch"}, "OwnFetch"),
        ({"patches": ("Sidekiq::BasicFetch: OwnPatch",)}, "OwnPatch"),
        ({"patches": ("Sidekiq::BasicFetch#retrieve_work",)}, "Sidekiq::BasicFetch#retrieve_work"),
    ],
    ids=["own fetcher", "prepended", "replaced"],
)
def test_what_limits_or_fetches_is_refused_until_it_is_accepted_by_name(
    reported: dict[str, Any], name: str
) -> None:
    found = gems.objection(health(**reported), ())

    assert found is not None
    assert f"BRIDGE_ACCEPT_GEMS={name}" in found
    assert gems.objection(health(**reported), (name,)) is None


@pytest.mark.parametrize(
    "reported",
    [
        {"fetch": "Sidekiq::ReliableFetch", "gems": {"gitlab-sidekiq-fetcher": "0.8"}},
        {"fetch": "Sidekiq::Pro::SuperFetch", "gems": {"sidekiq-pro": "7.3"}},
        {"patches": ("Sidekiq::Launcher: OwnPatch",)},
        {"gems": {"sidekiq-worker-killer": "1.0"}},
        {"gems": {"sidekiq-throttled": "2.0"}},
        {"gems": {"sidekiq-limit_fetch": ""}},
    ],
    ids=["reliable fetch", "super_fetch", "launcher", "worker killer", "throttled", "limit_fetch"],
)
def test_what_loses_no_limit_and_no_fetching_is_no_reason_to_stop(reported: dict[str, Any]) -> None:
    assert gems.objection(health(**reported), ()) is None


def test_limits_of_sidekiq_throttled_hold_for_each_job_that_passes_ruby() -> None:
    assert fare_of("sidekiq-throttled").verdict is Verdict.WORKS
    found = fare_of("sidekiq-throttled", "ReportJob")
    assert found.verdict is Verdict.PARTLY
    assert "BRIDGE_LIMITS" in found.seen


def test_a_patch_of_a_known_gem_is_told_once() -> None:
    reported = health(
        gems={"sidekiq-throttled": "2.0"},
        patches=("Sidekiq::BasicFetch: Sidekiq::Throttled::Patches::BasicFetch",),
    )
    assert [fare.name for fare in gems.fares(reported)] == ["sidekiq-throttled"]


def test_an_enqueuer_of_the_app_is_lost_and_client_middleware_is_named_instead() -> None:
    [fare] = gems.fares(health(patches=("Sidekiq::Scheduled::Enq: OwnEnqueuer",)))
    assert (fare.name, fare.verdict, fare.refuses) == ("OwnEnqueuer", gems.Verdict.LOST, False)
    assert "client middleware" in fare.cure
