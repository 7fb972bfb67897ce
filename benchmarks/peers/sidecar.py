"""Starts the sidecar for a peer that sends jobs to it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.base import Setup, Start
from benchmarks.peers.sidekiq import app_of
from benchmarks.processes import ROOT
from benchmarks.roots import RubyRoot
from benchmarks.site import Site


def socket_of(site: Site) -> Path:
    """The Unix socket of the sidecar."""
    return site.folder / "s.sock"


def sidecar(site: Site, setup: Setup, root: RubyRoot, puma_workers: int) -> Start:
    """As many slots in all as the workers have."""
    app, env = app_of(site, setup)
    threads = -(-setup.concurrency * setup.workers // puma_workers)
    command = ["ruby", str(ROOT / "sidecar/bin/sidecar"), "--require", str(app)]
    command += ["--bind", f"unix://{socket_of(site)}", "--workers", str(puma_workers)]
    command += ["--threads", str(threads)]
    command += ["--environment", "production"] if setup.rails else []
    return Start("sidecar", root.command(site.folder, *command), env, socket_of(site).exists)
