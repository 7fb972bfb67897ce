from __future__ import annotations

import os
from pathlib import Path

import pytest
from celery import Celery

from bridge.cli import sidecars
from bridge.cli.parts import Parts
from bridge.errors import ConfigurationError
from bridge.runtime import Runtime
from bridge.settings import load as load_settings
from bridge.sidecar.credentials import Credentials, Files
from bridge.sidecar.signature import first_secret


def test_the_first_of_two_secrets_signs() -> None:
    assert first_secret("new\nold\n") == first_secret("new,old") == b"new"
    assert first_secret(None) is None


def test_a_secret_that_was_replaced_in_its_file_signs_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    credentials = Credentials("old", Files(secret=path), tls=False)
    assert not credentials.refresh()

    (tmp_path / "next").write_text("new\n")
    os.replace(tmp_path / "next", path)
    assert credentials.refresh()
    assert credentials.signer._secret == b"new"
    assert not credentials.refresh()


@pytest.mark.parametrize("content", ["", "  \n"])
def test_an_empty_secret_never_replaces_one_that_works(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    credentials = Credentials("old", Files(secret=path), tls=False)
    path.write_text(content)
    os.utime(path, ns=(1, 1))
    assert not credentials.refresh()
    assert credentials.signer._secret == b"old"
    path.write_text("new")
    assert credentials.refresh()
    assert credentials.signer._secret == b"new"


def test_a_url_of_redis_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("redis://bridge:s3cret@host:1234/5\n")
    url = load_settings({"BRIDGE_REDIS_URL_FILE": str(path), "REDIS_URL": "redis://other"}).redis_url
    assert (url.username, url.password, str(url)) == ("bridge", "s3cret", "redis://***@host:1234/5")


def test_a_secret_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("redis://:s3cret@host")
    with pytest.raises(ConfigurationError, match="BRIDGE_REDIS_URL and BRIDGE_REDIS_URL_FILE are both set"):
        load_settings({"BRIDGE_REDIS_URL_FILE": str(path), "BRIDGE_REDIS_URL": "redis://host"})


def test_no_mistake_in_a_secret_file_shows_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("redis://:s3cret@host/not-a-number")
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"BRIDGE_REDIS_URL_FILE": str(path)})
    assert "s3cret" not in str(caught.value)
    assert "BRIDGE_REDIS_URL_FILE" in str(caught.value)


def test_a_file_that_holds_a_bare_password_is_not_shown_either(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("hunter2")
    with pytest.raises(ConfigurationError, match="hidden") as caught:
        load_settings({"BRIDGE_REDIS_URL_FILE": str(path)})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "HTTPS://127.0.0.1:1", "Https://127.0.0.1:1"])
def test_https_in_capitals_is_spoken_over_tls_too(url: str) -> None:
    """There was no TLS context for it, and each connection failed an assertion."""
    settings = load_settings({"BRIDGE_SIDECAR_URL": url, "BRIDGE_SIDECAR_SECRET": "s" * 32})
    parts = Parts()
    parts.settings = settings

    assert Runtime(Celery(), settings).credentials.tls is not None
    assert sidecars.probe(parts)._client._tls() is not None
