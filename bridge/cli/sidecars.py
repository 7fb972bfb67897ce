"""The state of the sidecars that the settings name."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import RenderableType

from bridge import errors
from bridge.cli import output
from bridge.cli.parts import Parts
from bridge.sidecar.address import Address
from bridge.sidecar.credentials import Credentials, Files
from bridge.sidecar.health import Health, HealthProbe
from bridge.sidecar.signature import Signer


@dataclass(frozen=True, slots=True)
class SidecarRow:
    """One sidecar; ``problem`` where it gave no answer."""

    url: str
    status: str
    sidekiq: str = ""
    workers: int = 0
    slots: int = 0
    busy: int = 0
    problem: str = ""


def probe(parts: Parts) -> HealthProbe:
    """Asks a sidecar as the worker would."""
    said = parts.settings
    secret = None if said.sidecar_secret is None else said.sidecar_secret.get_secret_value()
    files = Files(None, said.sidecar_ca, said.sidecar_client_cert, said.sidecar_client_key)
    tls = any(Address.parse(url).is_tls for url in said.sidecar_url)
    # Made when a sidecar is asked: a certificate that cannot be read is what is wrong with that sidecar.
    context = functools.cache(lambda: Credentials(secret, files, tls=tls).tls)
    return HealthProbe(
        Signer.of(secret), said.sidecar_connect_timeout_seconds, context, said.source("sidecar_secret")
    )


def ask(parts: Parts) -> list[SidecarRow]:
    """One row for each sidecar of the settings."""
    asking = probe(parts)
    return [_ask(asking, url) for url in parts.settings.sidecar_url]


def healths(parts: Parts) -> Iterator[Health]:
    """The health of each sidecar that answers."""
    asking = probe(parts)
    for url in parts.settings.sidecar_url:
        with contextlib.suppress(errors.SidecarError):
            yield asking.ask(Address.parse(url))


def _ask(asking: HealthProbe, url: str) -> SidecarRow:
    try:
        return _row(url, asking.ask(Address.parse(url)))
    except errors.SidecarUnavailable as error:
        return SidecarRow(url, "away", problem=str(error))
    except errors.SidecarRejected as error:
        return SidecarRow(url, "refuses us", problem=str(error))


def _row(url: str, health: Health) -> SidecarRow:
    busy = sum(worker.busy for worker in health.workers)
    return SidecarRow(url, health.status, health.sidekiq_version, len(health.workers), health.slots, busy)


def table(rows: list[SidecarRow]) -> RenderableType:
    """The sidecars as a table."""
    columns = ("sidecar", "state", "Sidekiq", ">Puma workers", ">busy", ">slots", "")
    return output.table(
        columns,
        [(row.url, row.status, row.sidekiq, row.workers, row.busy, row.slots, row.problem) for row in rows],
    )
