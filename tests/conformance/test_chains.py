"""Chains of Ruby and Python jobs, built in either language, run by workers and by Sidekiq's own processes."""

from __future__ import annotations

from typing import Any

import pytest

from bridge import errors
from tests.conformance.test_results import Side, running, side
from tests.support.waiting import wait_until_equal

__all__ = ["running", "side"]


def evaluate(side: Side, code: str) -> Any:
    return side.stage.ruby.evaluate(code)


def test_a_chain_of_ruby_jobs_passes_results(side: Side) -> None:
    code = "SidekiqBridge::Chain.new.add(SumJob, 1, 2).add(SumJob, 10).add(SumJob, 100).push"
    jid = evaluate(side, code)
    assert side.in_ruby(jid) == 113
    assert side.in_python(jid) == 113
    assert [line["args"] for line in side.stage.ledger.lines if line["event"] == "done"] == [
        [1, 2],
        [3, 10],
        [13, 100],
    ]


def test_an_immutable_step_gets_its_own_arguments_only(side: Side) -> None:
    jid = evaluate(side, "SidekiqBridge::Chain.new.add(SumJob, 1).add(SumJob, 5, immutable: true).push")
    assert side.in_python(jid) == 5


def test_links_and_later_steps(side: Side) -> None:
    code = """
      chain = SidekiqBridge::Chain.new.add(SumJob, 1).link(SumJob, 50)
      chain.add(SumJob, 2, in: 3600).push
    """
    jid = evaluate(side, code)
    side.stage.ledger.wait_for("done", None, times=0)
    entry = side.stage.only("schedule")
    assert (entry["jid"], entry["args"]) == (jid, [1, 2])
    wait_until_equal(
        lambda: sorted(line["args"] for line in side.stage.ledger.lines if line["event"] == "done"),
        [[1], [1, 50]],
        "the link to run",
    )


def test_a_death_runs_the_handler_and_reaches_the_end_of_the_chain(side: Side) -> None:
    code = """
      chain = SidekiqBridge::Chain.new.on_error(AlertJob, "chain")
      chain.add(SumJob, 1).add(TrackedJob, "fail", "no money", immutable: true).add(SumJob, 2).add(SumJob, 3)
      [chain.push, chain.jids[1]]
    """
    last, failing = evaluate(side, code)
    with pytest.raises(errors.JobFailed, match=r"\Ano money\Z"):
        side.in_python(last)
    assert side.error_in_ruby(last) == ("Billing::Declined", "no money")
    wait_until_equal(
        lambda: [line["args"] for line in side.stage.ledger.lines if line["event"] == "told"],
        [[failing, "chain"]],
        "the handler to run once",
    )


def test_a_result_that_cannot_be_passed_on_breaks_the_chain(side: Side) -> None:
    jid = evaluate(side, "SidekiqBridge::Chain.new.add(TrackedJob, 'object').add(SumJob, 2).push")
    with pytest.raises(errors.JobFailed, match="cannot be passed on"):
        side.in_python(jid)


def test_a_chain_that_no_job_can_be_is_refused(side: Side) -> None:
    for code in ("new.push", "new.add(Object)", "new.add(SumJob, Object.new)", "new.link(SumJob)"):
        ended = evaluate(
            side, f"begin; SidekiqBridge::Chain.{code}; rescue ArgumentError => e; e.message; end"
        )
        assert isinstance(ended, str)
        assert not side.stage.queued


def test_a_chain_of_both_languages_built_in_python(side: Side) -> None:
    if side.stage.worker is None:
        pytest.skip("a process of Sidekiq's own runs no Python")
    app = side.app
    steps = (
        app.signature("SumJob", args=[1, 2], options={"queue": "low"})
        | app.signature("proj.mul", args=[10])
        | app.signature("SumJob", args=[5], options={"queue": "low"})
    )
    result = steps()
    assert result.get(timeout=15) == 35
    assert side.in_ruby(result.parent.id) == 30


def test_a_chain_of_both_languages_built_in_ruby(side: Side) -> None:
    if side.stage.worker is None:
        pytest.skip("a process of Sidekiq's own runs no Python")
    code = 'SidekiqBridge::Chain.new.add("proj.add", 1, 2).add(SumJob, 4).add("proj.mul", 10).push'
    jid = evaluate(side, code)
    assert side.in_ruby(jid) == 70
