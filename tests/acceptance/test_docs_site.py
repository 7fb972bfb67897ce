"""The site of the documents: whole, strict, and asking no other server for anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[2]
SITE_PARTS = (
    "bridge",
    "benchmarks",
    "deploy",
    "docs",
    "sidecar",
    "scripts",
    "rails_app",
    "tests",
    "requirements",
)


def build(checkout: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=checkout,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    done = build(ROOT, site)
    assert done.returncode == 0, done.stderr
    return site


def test_every_document_is_a_page(site: Path) -> None:
    for document in (ROOT / "docs").glob("*.md"):
        assert (site / f"{document.stem}.html").is_file()
    assert "A Celery worker whose broker is Sidekiq" in (site / "index.html").read_text()


def test_links_into_the_code_lead_to_its_text(site: Path) -> None:
    page = (site / "architecture.html").read_text()
    (link,) = set(re.findall(r'href="(source/bridge/broker/transport[^"]*)"', page))
    assert (site / link).read_text() == (ROOT / "bridge/broker/transport.py").read_text()


def test_the_public_api_is_written_from_the_code(site: Path) -> None:
    page = (site / "api.html").read_text()
    assert "retried, buried and pushed by Sidekiq's rules" in page
    assert "ConfigurationError" in page


def test_no_page_asks_another_server(site: Path) -> None:
    for page in site.glob("*.html"):
        asked = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]+)"', page.read_text())
        assert asked == [], page.name


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in SITE_PARTS:
        (checkout / name).symlink_to(ROOT / name)
    (checkout / "docs").unlink()
    shutil.copytree(ROOT / "docs", checkout / "docs")
    for file in ROOT.glob("*.*"):
        if file.is_file():
            shutil.copy(file, checkout)
    shutil.copy(ROOT / "LICENSE", checkout)
    shutil.copy(ROOT / "Makefile", checkout)
    (checkout / "scripts").unlink()
    (checkout / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/docs_site.py", checkout / "scripts")
    with (checkout / "docs/protocol.md").open("a") as page:
        page.write("\n[nowhere](nowhere.md)\n")
    done = build(checkout, tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
