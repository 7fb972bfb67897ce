"""The tab of the bridge in Sidekiq's Web UI, in a real browser: jobs, batches, limits, moves, workers.

Pictures are kept in tmp/pictures/<version of Sidekiq>/.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bridge.batches.batch import Batch
from bridge.celery import make_app
from bridge.settings import load as load_settings
from tests.conformance.test_browser import CHROMIUM, Person, browse, web_ui
from tests.integration.test_metric_pages import OPTIONAL, names
from tests.support import redis_users
from tests.support.command import Bridge
from tests.support.probes import get
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage, new_jid
from tests.support.waiting import wait_for
from tests.support.worker_process import bridge_environment
from tests.unit.test_metric_names import named_on_the_page

LIMITS = [{"class": "GateJob", "concurrency": 1}]

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def shop(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """A worker with native tasks, a sidecar, and the Web UI under Puma."""
    with Stage(redis_server, ruby_root, database=8) as stage:
        stage.start_sidecar()
        env = {"BRIDGE_TRACK": "EchoJob,GateJob", "BRIDGE_LIMITS": json.dumps(LIMITS)}
        stage.start_worker(module="tests.support.moving_tasks", concurrency=10, env=env)
        with web_ui(stage):
            yield stage


@pytest.fixture
def person(shop: Stage) -> Iterator[Person]:
    yield from browse(shop)


def test_a_person_reads_the_tab_and_moves_a_class(shop: Stage, person: Person) -> None:
    # Given a class that moves, and jobs of it on both sides
    bridge = Bridge(bridge_environment(shop.redis_url, shop.sidecar.url if shop.sidecar else None))
    bridge("move", "EchoJob", "--percent", "50").well()
    worker = shop.worker
    assert worker is not None
    wait_for(lambda: "EchoJob moves: 50 %" in worker.log, "the worker to heed it")
    jids = [shop.push_job({"class": "EchoJob", "jid": new_jid(), "args": [n]}) for n in range(40)]
    # And a batch whose jobs wait behind a limit of one at once
    settings = load_settings({"BRIDGE_REDIS_URL": redis_users.for_bridge(shop.redis_url)})
    producer = make_app(settings)

    class Ours(Batch):
        app = producer

    batch = Ours("the <b>nightly</b> report")
    with batch.jobs():
        for _ in range(3):
            producer.send_task("GateJob", args=["tab"])
    shop.wait_counters(len(jids), 0)
    wait_for(lambda: shop.redis.zcard("schedule") == 2, "two jobs behind the limit")

    # Then Prometheus can read both
    optional = {name for name in named_on_the_page() if name.startswith(OPTIONAL)}
    wait_for(lambda: optional <= names(get(worker, "/metrics")[1]), f"{optional} on the worker's page")

    # When the person opens the tab
    person.visit("/")
    person.page.get_by_role("link", name="Bridge", exact=True).first.click()
    person.page.screenshot(path=person.pictures / "bridge.png", full_page=True)
    text = str(person.page.inner_text("body"))
    # Then it shows the jobs in their languages, the batch, the limit, the move and the worker
    rows = person.page.locator("tr:has(a[href*='/bridge/jobs/'])").all_inner_texts()
    assert {row.split("\t")[2] for row in rows if "EchoJob" in row} == {"python", "ruby"}
    assert "the <b>nightly</b> report" in text
    limit = person.page.locator("h3:has-text('Limits') + table tbody tr, h3:has-text('Limits') + table > tr")
    assert limit.first.inner_text().split("\t")[-2:] == ["1", "2"]
    process = person.page.locator("h3:has-text('Workers') + table tr:has-text('bridge')")
    assert "EchoJob" in process.first.inner_text()

    # When the person looks at one job and at the batch
    person.visit(f"/bridge/jobs/{jids[0]}", "bridge-job")
    assert "done" in person.page.inner_text("body")
    text = person.visit(f"/bridge/batches/{batch.bid}", "bridge-batch")
    assert "running" in text
    assert text.count("waiting") == 3

    # When the person sets another share, and then takes the class back
    person.visit("/bridge/moves/EchoJob", "bridge-move")
    person.page.locator("input[name=percent]").fill("75")
    person.click("input[name=set]")
    assert "75 % of the jids" in person.page.inner_text("body")
    person.click("input[name=back]")
    assert "Back in Ruby" in person.page.inner_text("body")
    moves = json.loads(shop.redis.hget("bridge:moves", "EchoJob") or b"{}")
    assert (moves["percent"], moves["is_back"]) == (0, True)

    # Then the batch ends when its jobs may
    shop.ledger.open_gate("tab")
    wait_for(lambda: "done" in person.visit(f"/bridge/batches/{batch.bid}"), "the batch to be done")
    producer.close()


def test_a_share_that_makes_no_sense_is_refused_on_the_page(shop: Stage, person: Person) -> None:
    bridge = Bridge(bridge_environment(shop.redis_url, shop.sidecar.url if shop.sidecar else None))
    bridge("move", "EchoJob", "--percent", "5").well()
    person.visit("/bridge/moves/EchoJob")
    # When the browser's own check is not there
    person.page.locator("input[name=percent]").evaluate(
        "field => { field.type = 'text'; field.value = '500' }"
    )
    person.click("input[name=set]")
    # Then the page says why, and nothing has changed
    assert "500 is not a number from 0 to 100" in person.page.inner_text("body")
    assert json.loads(shop.redis.hget("bridge:moves", "EchoJob") or b"{}")["percent"] == 5
