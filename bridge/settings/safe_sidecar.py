"""Refuses to send jobs in the clear or unsigned."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from bridge.errors import ConfigurationError
from bridge.settings import values


def require(urls: Iterable[str], source: str, *, has_secret: bool) -> None:
    """Each address is a Unix socket, or has a secret, and TLS beyond this machine. Raises ConfigurationError.

    ``source`` names the place of the setting.
    """
    for url in urls:
        if not url.startswith("unix:"):
            _require(url, source, has_secret)


def _require(url: str, source: str, has_secret: bool) -> None:
    if not has_secret:
        raise ConfigurationError(
            f"BRIDGE_SIDECAR_SECRET is unset, but {url} is no Unix socket: "
            "set it, or BRIDGE_SIDECAR_SECRET_FILE, on both sides"
        )
    if urlsplit(url).scheme == "http" and not values.is_loopback(url):
        raise ConfigurationError(f"{source}={url} leaves this machine without TLS: write https:// instead")
