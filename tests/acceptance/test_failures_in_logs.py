"""The worker's log says where a job ran, and why it failed, at each attempt and under each pool."""

from __future__ import annotations

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_for


def lines(stage: Stage, jid: str, end: str) -> list[str]:
    """Of one job, each with the traceback below it."""
    assert stage.worker is not None
    found: list[str] = []
    for line in stage.worker.log.splitlines():
        if line.startswith("  ") and found:
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return [line for line in found if jid in line and line.partition("\n")[0].endswith(end)]


@pytest.mark.parametrize("pool", ["bridge", "threads", "prefork"])
def test_each_failed_attempt_of_a_native_task_leaves_its_traceback(bare_stage: Stage, pool: str) -> None:
    # While a job was retried its traceback stood nowhere; it came with the last attempt, three weeks later.
    stage = bare_stage
    stage.start_worker(env={"BRIDGE_POOL": pool})
    jid = stage.push_job({"class": "NativeFailJob", "args": ["the disk is full"], "retry": 1})
    wait_for(lambda: stage.redis.zcard("retry"), "the job in retry")
    stage.make_due("retry")
    wait_for(lambda: stage.redis.zcard("dead"), "the job among the dead")

    def both() -> bool:
        return bool(lines(stage, jid, "will be retried") and lines(stage, jid, "for the last time"))

    wait_for(both, "a line for each attempt")
    (first,), (last,) = lines(stage, jid, "will be retried"), lines(stage, jid, "for the last time")
    for line, level in ((first, "WARN "), (last, "ERROR")):
        assert line.startswith(level)
        assert "class=NativeFailJob queue=default ran=python error_class=ValueError" in line
        assert "raise ValueError(message)" in line
        assert "celery" not in line  # the frames of the task alone
        assert "the disk is full" not in line  # an argument
    for end in (": retry", ": fail"):
        (line,) = wait_for(lambda end=end: lines(stage, jid, end), "the line of its end")
        assert "ran=python" in line


def test_a_failure_in_ruby_leaves_the_backtrace_that_ruby_keeps(bare_stage: Stage) -> None:
    stage = bare_stage
    stage.start_sidecar()
    stage.start_worker()
    kept = stage.ruby.push("FailJob", "why", retry=3, backtrace=True)
    plain = stage.ruby.push("FailJob", "why", retry=3)
    wait_for(lambda: stage.redis.zcard("retry") == 2, "both jobs in retry")
    wait_for(lambda: lines(stage, kept, "will be retried") and lines(stage, plain, "will be retried"), "both")

    (traced,), (untraced,) = lines(stage, kept, "will be retried"), lines(stage, plain, "will be retried")

    assert "ran=ruby error_class=" in traced
    assert "jobs.rb" in traced
    assert "\n" not in untraced
    wait_for(lambda: "ran=ruby" in "".join(lines(stage, kept, ": retry")), "the line of its end")
