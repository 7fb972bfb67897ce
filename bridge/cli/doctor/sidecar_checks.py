"""The sidecars: reachable, ours, matching, large enough."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from urllib.parse import urlsplit

import bridge
from bridge import errors
from bridge.cli.doctor.finding import Check, Finding, error, hint, warning
from bridge.cli.doctor.site import SidecarSight, Site
from bridge.sidecar.address import Address

MOST_SKEW_SECONDS = 5.0
SHORT_SECRET = 16


def reachable(site: Site) -> Iterator[Finding]:
    for sight in site.sidecars:
        if sight.health is None:
            yield _refusal(site, sight) if sight.code != "away" else _away(site, sight)
        elif not sight.health.ready:
            cure = "wait until it has booted; a draining one is about to end: start another"
            yield warning("sidecar-not-ready", f"{sight.url} is {sight.health.status}", cure)


def _away(site: Site, sight: SidecarSight) -> Finding:
    if not site.settings.says("sidecar_url"):
        cure = "fine with native tasks alone; else start it, and set BRIDGE_SIDECAR_URL"
        return warning("sidecar-away", f"no sidecar answers: {sight.problem}", cure)
    url = site.said("sidecar_url")
    cure = f"start bin/sidecar, or correct {url}; Ruby jobs wait in their queues meanwhile"
    if "certificate" in sight.problem:
        ca = site.said("sidecar_ca")
        cure = f"give {ca} the CA of its certificate, which must name this host and not be over"
    elif Address.parse(sight.url).is_tls and site.settings.sidecar_client_cert is None:
        cure += ". One with --tls-ca asks for BRIDGE_SIDECAR_CLIENT_CERT and BRIDGE_SIDECAR_CLIENT_KEY"
    return error("sidecar-away", sight.problem, cure)


def _refusal(site: Site, sight: SidecarSight) -> Finding:
    if sight.code == "timestamp":
        return error("sidecar-clock", sight.problem, "run a time service on both machines")
    if sight.code == "protocol" or "protocol" in sight.problem:
        return error("sidecar-protocol", sight.problem, "install the same release of worker and sidecar")
    if site.settings.sidecar_secret is None:
        seen = f"{sight.url} wants signed requests, and BRIDGE_SIDECAR_SECRET is unset here"
        return error("sidecar-secret", seen, "set the secret that the sidecar has, or its _FILE")
    secret = site.said("sidecar_secret")
    cure = f"correct {secret}: both sides need the same secret; then restart the one you corrected"
    return error("sidecar-secret", sight.problem, cure)


def safety(site: Site) -> Iterator[Finding]:
    try:
        site.settings.require_safe_sidecar()
    except errors.ConfigurationError as refusal:
        if site.settings.says("sidecar_url") or site.settings.sidecar_secret is not None:
            yield error("sidecar-unsafe", str(refusal).split(": ")[0], str(refusal).partition(": ")[2])


def secrets(site: Site) -> Iterator[Finding]:
    secret = site.settings.sidecar_secret
    if (
        secret is not None
        and min(map(len, secret.get_secret_value().replace("\n", ",").split(","))) < SHORT_SECRET
    ):
        yield warning(
            "weak-secret",
            f"the sidecar's secret is shorter than {SHORT_SECRET} characters",
            "openssl rand -hex 32",
        )
    path = site.settings.sidecar_secret_file
    if path is not None and path.stat().st_mode & stat.S_IROTH:
        yield warning("readable-secret", f"every user of this machine can read {path}", f"chmod o-r {path}")


def sockets(site: Site) -> Iterator[Finding]:
    for url in site.settings.sidecar_url:
        path = urlsplit(url).path if url.startswith("unix:") else ""
        if (
            path
            and os.path.exists(path)
            and os.stat(path).st_mode & stat.S_IWOTH
            and site.settings.sidecar_secret is None
        ):
            seen = f"every user of this machine can send jobs to {path}"
            yield warning(
                "open-socket", seen, "put it into a directory of the app's user (mode 0700), or set a secret"
            )


def clock(site: Site) -> Iterator[Finding]:
    for sight in site.sidecars:
        if sight.skew_seconds is not None and abs(sight.skew_seconds) > MOST_SKEW_SECONDS:
            way = "ahead of" if sight.skew_seconds > 0 else "behind"
            seen = f"the clock of {sight.url} is {abs(sight.skew_seconds):.0f} s {way} ours; at 60 it refuses"
            yield warning("sidecar-clock", seen, "run a time service on both machines")


def release(site: Site) -> Iterator[Finding]:
    for sight in site.sidecars:
        version = sight.health.version if sight.health else ""
        if version and version != bridge.__version__:
            seen = f"{sight.url} is release {version}, this is {bridge.__version__}"
            yield warning("sidecar-release", seen, "install the same release of both")
    if len(found := {health.sidekiq_version for health in site.healths}) > 1:
        seen = f"the sidecars run Sidekiq {' and '.join(sorted(found))}: retries depend on where a job ran"
        yield warning("sidecar-versions", seen, "bring them to one version")


def slots(site: Site) -> Iterator[Finding]:
    have, want = sum(health.slots for health in site.healths), sum(row.concurrency for row in site.workers)
    if have and want > have:
        seen = f"the workers run {want} jobs at once (-c), the sidecars have {have} slots"
        yield warning(
            "slots",
            seen,
            "raise the sidecar's --threads or --workers, or lower -c: jobs wait in the wrong place",
        )


def client_chain(site: Site) -> Iterator[Finding]:
    names = sorted({name for health in site.healths for name in health.client_middleware})
    if names and not site.settings.promote_through_sidecar:
        seen = f"due retries and scheduled jobs skip the app's client middleware: {', '.join(names)}"
        setting = site.said("promote_through_sidecar")
        cure = f"unset {setting}, unless it only adds fields at the first push"
        yield warning("client-middleware", seen, cure)


def database(site: Site) -> Iterator[Finding]:
    for sight in site.sidecars:
        pool = sight.health.database_pool if sight.health else None
        slots = max((worker.slots for worker in sight.health.workers), default=0) if sight.health else 0
        if pool is not None and pool < slots:
            seen = f"each process of {sight.url} has {slots} slots and {pool:g} connections to the database"
            cure = f"pool: {slots} in config/database.yml (often by RAILS_MAX_THREADS), or --threads {pool:g}"
            yield warning("database-pool", seen, f"{cure}: jobs that find no connection fail")


def cron(site: Site) -> Iterator[Finding]:
    unserved = sorted({name for health in site.healths for name in health.cron_unserved})
    served = sorted({name for health in site.healths for name in health.cron} - set(unserved))
    if unserved and not site.rubies:
        seen = f"the app has {', '.join(unserved)}, and no Sidekiq process is there to run its clock"
        cure = "keep one Sidekiq process for it, or move the entries to `celery -A bridge beat`"
        yield warning("cron", seen, cure)
    elif unserved:
        cure = "it goes on in the Sidekiq processes: keep one of them when you take the others away"
        yield hint("cron", f"the app has {', '.join(unserved)}", cure)
    if served:
        yield hint(
            "cron-served", f"the sidecar runs the clock of {', '.join(served)}", "nothing is to be done"
        )


CHECKS: tuple[Check, ...] = (
    reachable, safety, secrets, sockets, clock, release, slots, client_chain, database, cron,
)  # fmt: skip
