"""A move beside Sidekiq's own processes, and a roll-back to them, on each Sidekiq."""

from __future__ import annotations

import json
import zlib
from collections import Counter

import pytest

from tests.support.command import Bridge
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage, new_jid
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import bridge_environment

TASKS = "tests.support.moving_tasks"

pytestmark = pytest.mark.timeout(240)


def push(stage: Stage, job_class: str, count: int) -> list[str]:
    jids = [new_jid() for _ in range(count)]
    for jid in jids:
        stage.push_job({"class": job_class, "jid": jid, "args": [], "retry": True}, "moving")
    return jids


def runs(stage: Stage) -> dict[str, list[str]]:
    words = {"python": "python", "done": "ruby", "failed": "ruby"}
    found: dict[str, list[str]] = {}
    for line in stage.ledger.lines:
        if line["event"] in words:
            found.setdefault(line["jid"], []).append(words[line["event"]])
    return found


def test_a_class_moves_beside_sidekiq_and_back_to_it(redis_server: RedisServer, ruby_root: RubyRoot) -> None:
    """Sidekiq runs in Ruby what it takes, its share is shown, and after a roll-back it runs every retry."""
    with Stage(redis_server, ruby_root, database=4) as stage:
        sidecar = stage.start_sidecar()
        bridge = Bridge(bridge_environment(stage.redis_url, sidecar.url))
        worker = stage.start_worker("-Q", "moving", module=TASKS, concurrency=2, name="beside-stock")
        bridge("move", "EchoJob", "--percent", "50").well()
        bridge("move", "FailJob", "--percent", "50", "--no-guard").well()
        wait_for(lambda: "FailJob moves: 50 %" in worker.log, "the worker to heed it")
        # As if the move had begun three minutes ago: its first minute has runs from before it.
        earlier = json.loads(stage.redis.hget("bridge:moves", "EchoJob") or b"")
        stage.redis.hset(
            "bridge:moves", "EchoJob", json.dumps({**earlier, "since_ms": earlier["since_ms"] - 180_000})
        )

        # Either program may be quick enough to take all jobs of a queue: the worker has its share before.
        jids = push(stage, "EchoJob", 100)
        stage.wait_done()
        stock = StockSidekiq(ruby_root, stage.place, stage.redis_url, "-c", "2", "-q", "moving")
        jids += push(stage, "EchoJob", 300)
        failing = push(stage, "FailJob", 40)
        stage.wait_done(40)
        wait_until_equal(lambda: stage.redis.zcard("retry"), 40, "retries")
        assert Counter(map(len, runs(stage).values())) == {1: 440}

        def row() -> dict[str, object]:
            return dict(bridge("moves", "--json").well().json[0])

        if ruby_root.sidekiq < (7,):
            assert row()["sidekiq_share"] is None
        else:
            # Sidekiq and the worker write their counts at their next heartbeats.
            taken = sum(f"jid={jid}" in stock.process.log for jid in jids) / len(jids)
            assert taken <= 0.75
            wait_for(
                lambda: abs((row()["sidekiq_share"] or 0.0) - taken) < 0.02, f"a share of {taken:.0%}", 20
            )

        sides = {
            json.loads(raw)["jid"]: json.loads(raw).get("bridge_side")
            for raw in stage.redis.zrange("retry", 0, -1)
        }
        for jid in failing:
            here = runs(stage)[jid] == ["python"]
            assert sides[jid] in ({"python"} if here else {"ruby", None})
            assert not here or zlib.crc32(jid.encode()) < 2**31

        assert worker.terminate() == 0
        stage.make_due("retry")
        wait_until_equal(
            lambda: {len(runs(stage)[jid]) for jid in failing}, {2}, "Sidekiq to run the retries", 40
        )
        assert {runs(stage)[jid][-1] for jid in failing} == {"ruby"}
        stock.stop()
