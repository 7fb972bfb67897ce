"""The user's story: Rails enqueues, `celery -A bridge worker -c 20` runs everything, the Web UI shows it."""

from __future__ import annotations

import html
import http.cookiejar
import os
import re
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.demo.outcome import Job, Outcome
from scripts.demo.place import Place
from tests.support import census
from tests.support.processes import ROOT, Process, free_port
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for

CHROMIUM = "/usr/bin/chromium"
QUEUES = "critical,default,mailers,low,reports"


@dataclass
class Browser:
    """What a browser does with pages and forms, over real HTTP."""

    base: str
    cookies: http.cookiejar.CookieJar = field(default_factory=http.cookiejar.CookieJar)

    def __post_init__(self) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))
        self._opener.addheaders = [("Sec-Fetch-Site", "same-origin")]

    def get(self, path: str) -> str:
        with self._opener.open(self.base + path, timeout=20) as answer:
            text: str = answer.read().decode()
            return text

    def submit(self, page: str, path: str, **fields: str) -> str:
        """Send a form of ``page``, with its token."""
        inputs = re.findall(r"<input[^>]*authenticity_token[^>]*>", self.get(page))
        token = html.unescape(re.findall(r"""value=["']([^"']+)""", inputs[0])[0])
        data = urllib.parse.urlencode({**fields, "authenticity_token": token}).encode()
        with self._opener.open(self.base + path, data, timeout=20) as answer:
            text: str = answer.read().decode()
            return text


@dataclass
class Company:
    """Rails under Puma, its sidecar, and the worker."""

    stage: Stage
    browser: Browser
    place: Place


@pytest.fixture(scope="module")
def company(
    redis_server: RedisServer, ruby_root: RubyRoot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Company]:
    directory = tmp_path_factory.mktemp("company")
    rails = ROOT / "rails_app"
    stage = Stage(redis_server, ruby_root, database=5, jobs=rails)
    port = free_port()
    place = Place(directory, directory, stage.redis_url, None, port, 0, 0, "", "")
    env = {
        "REDIS_URL": stage.redis_url,
        "BRIDGE_DEMO_DB": str(place.database),
        "DEMO_MAIL_DIR": str(directory / "mails"),
        "RAILS_ENV": "development",
    }
    web: Process | None = None
    try:
        stage.start_sidecar(env=env, threads=20)
        address = {"PUMA_BIND": f"tcp://127.0.0.1:{port}"}
        web = Process(
            "puma", ["puma", "-C", "config/puma.rb", "config.ru"], directory, env=env | address, cwd=rails
        )
        stage.start_worker(
            module="bridge",
            concurrency=20,
            env={
                "BRIDGE_QUEUES": QUEUES,
                "BRIDGE_IMPORTS": "demo_tasks",
                "PYTHONPATH": f"{ROOT}:{rails / 'python'}",
                **env,
            },
        )
        browser = Browser(place.web_url)
        web.wait_ready(lambda: is_up(browser), 40)
        yield Company(stage, browser, place)
    finally:
        if web is not None:
            web.stop()
        stage.stop()


def is_up(browser: Browser) -> bool:
    try:
        return browser.get("/up") == "ok"
    except OSError:
        return False


@pytest.fixture(scope="module")
def outcome(company: Company) -> list[Job]:
    """What became of each job of the demo's mix, pushed through the form of the root page."""
    outcome = Outcome(company.place)
    company.browser.submit("/", "/enqueue", size="10", native="1")

    def all_ended() -> bool:
        jobs = outcome.jobs()
        return bool(jobs) and all(job.as_expected for job in jobs) and not outcome.in_flight()

    try:
        wait_for(all_ended, "every job to end as Rails expects", 75)
    except AssertionError:
        wrong = Counter((j.job_class, j.expected, j.actual) for j in outcome.jobs() if not j.as_expected)
        raise AssertionError(f"class, expected, actual: {dict(wrong)}") from None
    return outcome.jobs()


def test_every_job_that_rails_enqueues_ends_as_rails_expects(company: Company, outcome: list[Job]) -> None:
    by_outcome = Counter(job.actual for job in outcome)

    assert by_outcome.keys() == {"done", "dead", "dropped", "scheduled"}
    assert len(outcome) > 30
    census.assert_each_in_one_place(company.stage.redis)
    census.assert_keys_clean(company.stage.redis)


def test_every_page_of_the_web_ui_shows_it(company: Company, outcome: list[Job]) -> None:
    stage, browser = company.stage, company.browser

    for page in ("/", "/busy", "/queues", "/queues/default", "/retries", "/scheduled", "/morgue"):
        assert "Sidekiq" in browser.get(f"/sidekiq{page}")
    assert stage.worker is not None
    assert stage.worker.identity in browser.get("/sidekiq/busy")
    morgue = browser.get("/sidekiq/morgue")
    for job_class in {job.job_class for job in outcome if job.actual == "dead"}:
        assert job_class in morgue


def test_a_dead_job_is_retried_from_the_web_ui_and_dies_again(company: Company, outcome: list[Job]) -> None:
    stage, browser = company.stage, company.browser
    dead = stage.ruby.set("dead")[0]
    jid, score = dead["jid"], dead["score"]
    before = stage.redis.zcard("dead")

    browser.submit("/sidekiq/morgue", f"/sidekiq/morgue/{score!r}-{jid}", retry="Retry Now")

    def failed_anew() -> bool:
        entries = [e for name in ("dead", "retry") for e in stage.ruby.set(name) if e["jid"] == jid]
        return len(entries) == 1 and entries[0]["score"] != score

    wait_for(failed_anew, f"job {jid} to have failed anew")
    assert stage.redis.zcard("dead") + stage.redis.zcard("retry") == before


@pytest.fixture
def chromium_page(company: Company) -> Iterator[object]:
    """A page of a real browser."""
    if not os.path.exists(CHROMIUM):
        pytest.skip("chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(base_url=company.place.web_url)
        browser.close()


def test_a_browser_enqueues_the_mix_and_sees_the_worker_busy(
    company: Company, outcome: list[Job], chromium_page: object, tmp_path: Path
) -> None:
    page = chromium_page
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))  # type: ignore[attr-defined]

    page.goto("/")  # type: ignore[attr-defined]
    page.locator("form input[type=submit], form button").first.click()  # type: ignore[attr-defined]
    page.get_by_text("jobs enqueued").wait_for(timeout=10_000)  # type: ignore[attr-defined]
    page.goto("/sidekiq/busy")  # type: ignore[attr-defined]

    assert company.stage.worker is not None
    assert company.stage.worker.identity.split(":")[1] in page.content()  # type: ignore[attr-defined]
    assert errors == []
