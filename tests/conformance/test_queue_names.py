"""The queues of a sidekiq.yml are those that Sidekiq's own process serves, on every version.

``:queues: [import:1, default]`` was read as a weight. No worker served ``import:1``, and none said so.
"""

from __future__ import annotations

import json

from bridge.settings import load as load_settings
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq

TEXT = ":queues:\n  - import:1\n  - [import:2, 3]\n  - [low, 1]\n  - :mailers\n"


def test_worker_and_sidekiq_serve_the_same_queues(stage: Stage) -> None:
    file = stage.directory / "sidekiq.yml"
    file.write_text(TEXT)
    settings = load_settings({"BRIDGE_CONFIG": str(file), "BRIDGE_REDIS_URL": stage.redis_url})
    before = stage.redis.smembers("processes")

    # Given Sidekiq's own process on this file
    process = StockSidekiq(stage.root, stage.place, stage.redis_url, "-C", str(file), "-c", "1")
    try:
        [row] = stage.redis.smembers("processes") - before
        told = json.loads(stage.redis.hget(row, "info"))["queues"]

        # Then it serves the queues that the bridge reads
        assert set(told) == set(settings.queues.names) == {"import:1", "import:2", "low", "mailers"}
    finally:
        process.stop()
    assert settings.queues.weight_by_name == {"import:1": 1, "import:2": 3, "low": 1, "mailers": 1}


def test_a_job_in_a_queue_with_a_number_at_its_end_runs(stage: Stage) -> None:
    file = stage.directory / "sidekiq.yml"
    file.write_text(TEXT)
    worker = stage.make_worker(
        env={"BRIDGE_CONFIG": str(file), "BRIDGE_QUEUES": ""}, concurrency=1, name="numbered"
    )
    try:
        jid = stage.push_job({"class": "NativeEchoJob", "args": []}, "import:1")
        stage.ledger.wait_for("done", jid)
    finally:
        worker.stop()
