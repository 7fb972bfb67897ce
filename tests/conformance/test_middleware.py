"""Python code inside Ruby's middleware, and pushes through client middleware, on each Sidekiq."""

from __future__ import annotations

from tests.integration import test_ruby_client as pushes
from tests.integration import test_ruby_middleware as runs
from tests.support.stage import Stage


def test_gems_see_a_native_end_as_that_of_a_ruby_job(bare_stage: Stage) -> None:
    runs.test_lock_batch_tenant_and_status_are_right_after_each_end(bare_stage, "bridge")


def test_a_worker_that_dies_frees_the_slot(bare_stage: Stage) -> None:
    runs.test_a_worker_that_dies_leaves_no_slot_behind(bare_stage)


def test_a_time_limit_ends_it_in_both_languages(bare_stage: Stage) -> None:
    runs.test_a_time_limit_ends_it_as_a_ruby_job(bare_stage, "bridge")


def test_self_retry_names_the_delay(bare_stage: Stage) -> None:
    runs.test_retry_and_ignore_of_the_code_are_heeded(bare_stage)


def test_a_push_is_as_one_from_ruby(bare_stage: Stage) -> None:
    pushes.test_a_push_takes_lock_tenant_and_options_as_one_from_ruby(bare_stage)
