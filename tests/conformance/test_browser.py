"""A person clicks through the Web UI in a real browser while the bridge works.

Pictures of every page are kept in tmp/pictures/<version of Sidekiq>/.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge.celery import make_app
from bridge.settings import load as load_settings
from tests.support import redis_users
from tests.support.processes import ROOT, Process, free_port
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

CHROMIUM = Path("/usr/bin/chromium")
CLICK_MS = 20_000
#: The form whose buttons act on the entries that are ticked.
TICKED = "form:has(input[name='key[]'])"
DELETE_ALL_DEAD = "form[action$='morgue/all/delete'] [name=delete], [formaction$='morgue/all/delete']"


@dataclass
class Person:
    """Somebody at a browser, who keeps pictures and notices what goes wrong behind the page."""

    page: Any
    pictures: Path
    complaints: list[str] = field(default_factory=list)

    def visit(self, path: str, picture: str = "") -> str:
        """Open a page; gives the text on it."""
        self.page.goto(path)
        if picture:
            self.page.wait_for_timeout(700)  # charts are drawn after the page is there
            self.page.screenshot(path=self.pictures / f"{picture}.png", full_page=True)
        return str(self.page.inner_text("body"))

    def click(self, button: str) -> None:
        """Press the button that this selector finds, and wait for the page behind it."""
        with self.page.expect_navigation(timeout=CLICK_MS):
            self.page.locator(button).first.click(timeout=CLICK_MS)

    def notice(self, response: Any) -> None:
        """Anything but a script that Debian's package of Sidekiq 6.4 leaves out."""
        if response.status >= 400 and "/javascripts/" not in response.url:
            self.complaints.append(f"{response.status} {response.url}")

    def select_all(self) -> None:
        for box in self.page.locator("input[name='key[]']").all():
            box.check(force=True)


@contextmanager
def web_ui(stage: Stage) -> Iterator[None]:
    """Sidekiq's Web UI under Puma, at ``stage.web_url``."""
    port = free_port()
    web = Process(
        "web",
        stage.root.command("env", "-C", ROOT, "puma", "-b", f"tcp://127.0.0.1:{port}", "-t", "2:5",
                           ROOT / "tests/support/ruby/web.ru"),
        stage.directory,
        env={"REDIS_URL": stage.redis_url, "TEST_LEDGER": str(stage.place.path / "ledger"),
             "RACK_ENV": "production", "HOME": "/tmp"},
    )  # fmt: skip
    stage.web_url = f"http://127.0.0.1:{port}"  # type: ignore[attr-defined]
    try:
        web.wait_ready(lambda: answers(f"http://127.0.0.1:{port}/stats"), 40)
        yield
    finally:
        web.stop()


@pytest.fixture(scope="module")
def shop(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """A team's installation: weights, a tag, labels, and the Web UI under Puma."""
    if not CHROMIUM.exists():
        pytest.skip("chromium is not installed")
    with redis_server.client(9) as client:
        client.flushdb()
    stage = Stage(redis_server, ruby_root, database=9)
    try:
        stage.start_sidecar()
        env = {"BRIDGE_QUEUES": "critical:3,default:2,low:1", "BRIDGE_TAG": "shop", "BRIDGE_LABELS": "python"}
        stage.start_worker(concurrency=10, env=env)
        with web_ui(stage):
            fill(stage)
            yield stage
    finally:
        stage.stop()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def fill(stage: Stage) -> None:
    """What a shop's Sidekiq looks like on a normal day."""
    producer = make_app(load_settings({"BRIDGE_REDIS_URL": redis_users.for_bridge(stage.redis_url)}))
    for number in range(60):
        stage.ruby.push("EchoJob", number, queue=("critical", "default", "low")[number % 3])
        stage.ruby.push("NativeEchoJob", number)
    for seconds in (0.02, 0.1, 0.3, 0.7):
        stage.ruby.push("SleepJob", seconds)
    for name in ("FailJob", "NativeFailJob"):
        stage.ruby.push(name, "Größe <b>XL</b> is sold out", backtrace=True, tags=["stock", "urgent"])
        stage.ruby.push(name, "the warehouse is closed", retry=0)
    stage.ruby.call("active_job", job="GreetJob", args=["Ada"])
    stage.ruby.call("active_job", job="GreetJob", args=[""])
    for countdown in (90, 5400):
        producer.send_task("EchoJob", args=["from Python", {"id": 7}], countdown=countdown, queue="low")
    stage.ruby.push("EchoJob", "waits for nobody", queue="parked")
    stage.wait_counters(130, 5)
    stage.wait_idle()
    postpone_retries(stage)
    producer.close()


def postpone_retries(stage: Stage) -> None:
    """Nobody but the person at the browser runs them again during a test."""
    for member in stage.redis.zrange("retry", 0, -1):
        stage.redis.zadd("retry", {member: time.time() + 3600}, xx=True)


def browse(shop: Stage) -> Iterator[Person]:
    """A browser on this shop's Web UI. Nothing may go wrong behind its pages."""
    playwright = pytest.importorskip("playwright.sync_api")
    pictures = ROOT / "tmp" / "pictures" / ".".join(map(str, shop.root.sidekiq))
    pictures.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(
            base_url=shop.web_url,  # type: ignore[attr-defined]
            viewport={"width": 1300, "height": 900},
        )
        found = Person(page, pictures)
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("response", found.notice)
        page.on("dialog", lambda dialog: dialog.accept())
        yield found
        browser.close()
    assert found.complaints == []


@pytest.fixture
def person(shop: Stage) -> Iterator[Person]:
    yield from browse(shop)


@pytest.mark.timeout(240)
def test_a_person_clicks_through_every_page_and_finds_nothing_odd(
    shop: Stage, person: Person, sidekiq: tuple[int, ...]
) -> None:
    running = [shop.ruby.push("GateJob", "shop", queue="critical"), shop.ruby.push("NativeGateJob", "shop")]
    for jid in running:
        shop.ledger.wait_for("started", jid)
    worker = shop.worker
    assert worker is not None
    wait_until_equal(lambda: shop.redis.hget(worker.identity, "busy"), b"2", "both jobs on the Busy page")
    wait_until_equal(lambda: shop.redis.hlen(f"{worker.identity}:work"), 2, "the rows of both")

    text = person.visit("/", "dashboard")
    assert "130" in text

    text = person.visit("/busy", "busy")
    assert all(shown in text for shown in ("shop", "python", "critical", *running, "GateJob"))
    in_ruby, in_python = (person.page.locator(f"tr:has-text('{jid}')").inner_text() for jid in running)
    assert ("python" in in_python, "python" in in_ruby) == (True, False)

    assert "parked" in person.visit("/queues", "queues")
    assert "waits for nobody" in person.visit("/queues/parked", "queue")

    text = person.visit("/retries", "retries")
    assert all(shown in text for shown in ("FailJob", "NativeFailJob", "GreetJob", "sold out", "urgent"))
    person.page.locator("table a[href*='/retries/']").first.click()
    person.page.screenshot(path=person.pictures / "retry.png", full_page=True)

    assert "the warehouse is closed" in person.visit("/morgue", "dead")
    assert "from Python" in person.visit("/scheduled", "scheduled")
    if sidekiq >= (7,):
        text = person.visit("/metrics", "metrics")
        assert all(shown in text for shown in ("EchoJob", "NativeEchoJob", "SleepJob", "GreetJob"))
        assert "EchoJob" in person.visit("/metrics/SleepJob", "metrics-of-a-job").replace("Sleep", "Echo")

    shop.ledger.open_gate("shop")
    for jid in running:
        shop.ledger.wait_for("done", jid)
    wait_for(lambda: running[0] not in person.visit("/busy"), "the job to leave the Busy page", 5)


@pytest.mark.timeout(240)
def test_a_person_presses_the_buttons(shop: Stage, person: Person) -> None:
    processed = shop.counters()[0]

    person.visit("/retries")
    person.select_all()
    person.click(f"{TICKED} [name=retry]")
    wait_until_equal(lambda: shop.counters()[0], processed + 3, "processed: three retried now")
    wait_until_equal(lambda: shop.redis.zcard("retry"), 3, "entries in retry")
    postpone_retries(shop)

    person.visit("/retries")
    person.select_all()
    person.click(f"{TICKED} [name=kill]")
    assert (shop.redis.zcard("retry"), shop.redis.zcard("dead")) == (0, 5)

    person.visit("/morgue")
    person.click(DELETE_ALL_DEAD)
    assert shop.redis.zcard("dead") == 0

    person.visit("/scheduled")
    person.select_all()
    person.click(f"{TICKED} [name=add_to_queue]")
    wait_until_equal(lambda: shop.counters()[0], processed + 5, "processed: two scheduled ones as well")

    person.visit("/queues")
    person.click("form[action$='queues/parked'] [name=delete]")
    assert not shop.redis.exists("queue:parked")

    worker = shop.worker
    assert worker is not None
    person.visit("/busy")
    person.click("td form [name=quiet]")
    wait_for(lambda: shop.redis.hget(worker.identity, "quiet") == b"true", "quiet", 10)
    assert "quiet" in person.visit("/busy", "busy-quiet")
    person.click("td form [name=stop]")
    assert worker.process.wait(20) == 0
    assert str(worker.pid) not in person.visit("/busy", "busy-stopped")
