"""A native job adds jobs to its own batch, under each pool."""

from __future__ import annotations

import pytest

from bridge.celery import make_app
from bridge.settings import load as load_settings
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

JOBS = {
    "NativeAddingJob": "tests.support.batch_tasks",
    "CoroutineAddingJob": "tests.support.batch_coroutines",
}
POOLS = ["own", "prefork", "threads", "solo"]


@pytest.mark.parametrize(
    ("name", "pool"), [*((name, pool) for name in JOBS for pool in POOLS), ("NativeAddingJob", "gevent")]
)
def test_a_native_job_adds_to_its_own_batch(
    redis_server: RedisServer, ruby_root: RubyRoot, name: str, pool: str
) -> None:
    with Stage(redis_server, ruby_root, database=4) as stage:
        flags = () if pool == "own" else ("-P", pool)
        stage.start_worker(*flags, module=JOBS[name], concurrency=2)
        app = make_app(load_settings({"BRIDGE_REDIS_URL": stage.redis_url}))
        batch = app.Batch().on_success("ReportJob", "all")
        with batch.jobs():
            app.send_task(name)
        wait_until_equal(lambda: batch.status().total, 2, "the job that was added")
        assert batch.status().state != "done"
        stage.worker.stop()  # type: ignore[union-attr]
        assert stage.queued == {"queue:default": 1}
