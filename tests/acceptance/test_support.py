"""The shared fixtures themselves: pushed by the real client, run by the real worker."""

from __future__ import annotations

from tests.support import census
from tests.support.stage import Stage


def test_a_ruby_and_a_native_job_run(stage: Stage) -> None:
    ruby = stage.ruby.push("EchoJob", 1, "zoë")
    native = stage.ruby.push("NativeEchoJob", 2.5, None)

    stage.ledger.wait_for("done", ruby)
    stage.ledger.wait_for("done", native)

    assert stage.ledger.args(ruby) == [1, "zoë"]
    assert stage.ledger.args(native) == [2.5, None]
    stage.wait_counters(2, 0)
    stage.wait_idle()
    assert census.assert_each_in_one_place(stage.redis) == {}
    census.assert_keys_clean(stage.redis)
    assert stage.ruby.get("/busy").assert_fine().body.count(stage.worker.identity.split(":")[0]) >= 1
