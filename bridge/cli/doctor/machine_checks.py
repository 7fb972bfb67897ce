"""The worker on this machine: its probes, time-outs, limits, and what it shows to others."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bridge.cli.doctor.finding import Check, Finding, error, hint, warning
from bridge.cli.doctor.site import Site
from bridge.redis.client import RedisAddress
from bridge.settings import modules

#: Beyond the time for running jobs: interrupting, giving back, Celery's own end (docs/operations.md).
SHUTDOWN_EXTRA_SECONDS = 15
#: Files beside those of the jobs: Redis, sidecar, streams, probes, logs.
OWN_FILES = 100
FILES_PER_JOB = 4
UNIT = "sidekiq-bridge-worker.service"


def probes(site: Site) -> Iterator[Finding]:
    sight = site.probe
    if sight is None:
        return
    here = [row for row in site.workers if row.hostname == site.hostname]
    if sight.health is not None:
        # One that is ready leaves something undone: a check of its own says what.
        for reason in () if sight.health.get("ready") else sight.health.get("reasons") or ():
            yield error(
                "worker-not-ready",
                f"the worker on {sight.where} takes no jobs: {reason}",
                "bridge status; its log",
            )
    elif sight.answers:
        seen = f"something else than a worker answers on {sight.where}: workers take the next free port"
        yield warning(
            "health-port",
            seen,
            f"give {site.said('health_bind')} a free port, so that probes and scrapes find it",
        )
    elif here:
        seen = f"{here[0].identity} is on this machine, and no worker answers on {sight.where}"
        yield warning(
            "worker-unreachable",
            seen,
            f"compare {site.said('health_bind')} with the worker's; look at its log",
        )


def exposure(site: Site) -> Iterator[Finding]:
    bind = site.settings.health_bind
    if bind.host not in ("127.0.0.1", "::1", "localhost"):
        seen = f"probes and metrics are open on {bind}: they name queues and job classes"
        yield hint("health-open", seen, "let only the scraper and the kubelet reach it")
    if site.settings.show_args:
        yield hint(
            "args-shown",
            f"{site.said('show_args')} is on: events and Flower carry arguments",
            "unset it where they are private",
        )
    if site.settings.allow_purge:
        yield warning(
            "purge-allowed",
            f"{site.said('allow_purge')} is on: celery purge empties Sidekiq's queues",
            "unset it",
        )


def leases(site: Site) -> Iterator[Finding]:
    third, answer = site.settings.lease_seconds / 3, RedisAddress().timeout_seconds
    if third < answer:
        seen = (
            f"a third of the lease is {third:g} s, an answer of Redis may take {answer:g} s: "
            "one slow answer costs a living worker its jobs"
        )
        yield warning("timeout-lease", seen, f"set {site.said('lease_seconds')} to {3 * answer:g} or more")


def shutdown(site: Site) -> Iterator[Finding]:
    ours = site.settings.shutdown_timeout_seconds
    for health in site.healths:
        if health.timeout_seconds is not None and health.timeout_seconds < ours:
            theirs = health.timeout_seconds
            seen = f"at their ends the worker gives running jobs {ours:g} s, the sidecar {theirs:g} s"
            cure = f"start the sidecar with --timeout {ours:g}, and stop it after the worker"
            yield warning("timeout-sidecar", seen, cure)
    stop = _systemd_seconds()
    if stop is not None and stop < ours + SHUTDOWN_EXTRA_SECONDS:
        seen = f"systemd kills {UNIT} after {stop:g} s; it needs up to {ours + SHUTDOWN_EXTRA_SECONDS:g} s"
        yield error("timeout-systemd", seen, f"TimeoutStopSec={ours + SHUTDOWN_EXTRA_SECONDS:g}")


def files(site: Site) -> Iterator[Finding]:
    limits = {"this shell": resource.getrlimit(resource.RLIMIT_NOFILE)[0]}
    for row in site.workers:
        if row.hostname == site.hostname and (limit := _limit_of(row.pid)) is not None:
            limits[row.identity] = limit
    jobs = max([site.settings.concurrency or 0, *(row.concurrency for row in site.workers)])
    need = OWN_FILES + FILES_PER_JOB * jobs
    for who, limit in limits.items():
        if limit != resource.RLIM_INFINITY and limit < need:
            seen = f"{who} may open {limit} files; {jobs} jobs at once want {need}"
            yield error("file-limit", seen, f"ulimit -n {max(need, 1024)}, or LimitNOFILE= in the unit")


def config_file(site: Site) -> Iterator[Finding]:
    for complaint in site.settings.file.complaints:
        seen, _, cure = complaint.rpartition(": ")
        yield warning("config-file", seen, cure)


def modules_there(site: Site) -> Iterator[Finding]:
    for name in site.settings.imports:
        if not modules.find(name):
            seen = f"{site.said('imports')} names {name}, and no such module is found from here"
            yield error("imports", seen, "correct the name, or look from the directory where workers start")
    if site.settings.tracing != "off" and not modules.find("opentelemetry.sdk"):
        named = f"{site.said('tracing')}={site.settings.tracing}"
        seen = f"{named} needs OpenTelemetry, which is not installed here"
        yield error("tracing-extra", seen, "pip install 'sidekiq-bridge[otel]'")


def _systemd_seconds() -> float | None:
    """TimeoutStopSec of the worker's unit; None without systemd, or without such a unit."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return None
    words = [systemctl, "show", UNIT, "--property=LoadState,TimeoutStopUSec", "--timestamp=unix"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    return _seconds(found["TimeoutStopUSec"]) if found.get("LoadState") == "loaded" else None


def _seconds(text: str) -> float | None:
    """systemd's ``1min 30s``."""
    units = {"h": 3600, "min": 60, "s": 1, "ms": 0.001}
    total = 0.0
    for word in text.split():
        number, unit = word.rstrip("hmins"), word.lstrip("0123456789.")
        if not number or unit not in units:
            return None
        total += float(number) * units[unit]
    return total


def _limit_of(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except OSError:  # another user's, in another container, or gone
        return None
    found = next((line.split() for line in lines if line.startswith("Max open files")), None)
    return int(found[3]) if found and found[3].isdigit() else None


CHECKS: tuple[Check, ...] = (probes, exposure, leases, shutdown, files, config_file, modules_there)
