"""The parts of the client, as the settings describe them."""

from __future__ import annotations

from bridge.settings import Settings
from bridge.sidecar import gems
from bridge.sidecar.address import Address
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.credentials import Credentials, Files
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import HealthProbe
from bridge.sidecar.timeouts import Timeouts


def credentials(said: Settings) -> Credentials:
    """The shared secret, and certificates."""
    secret = said.sidecar_secret.get_secret_value() if said.sidecar_secret else None
    files = Files(
        said.sidecar_secret_file, said.sidecar_ca, said.sidecar_client_cert, said.sidecar_client_key
    )
    return Credentials(secret, files, tls=any(Address.parse(url).is_tls for url in said.sidecar_url))


def fleet(said: Settings, shown: Credentials) -> Fleet:
    """All Puma workers of all sidecars."""
    probe = HealthProbe(
        shown.signer,
        said.sidecar_connect_timeout_seconds,
        lambda: shown.tls,
        said.source("sidecar_secret"),
        lambda health: gems.objection(health, said.accept_gems),
    )
    return Fleet([Address.parse(url) for url in said.sidecar_url], probe)


def client(said: Settings, members: Fleet, shown: Credentials) -> SidecarClient:
    """The client of the sidecars, one request at a time."""
    timeouts = Timeouts(said.sidecar_connect_timeout_seconds, said.sidecar_read_timeout_seconds)
    return SidecarClient(members, shown.signer, timeouts, lambda: shown.tls)
