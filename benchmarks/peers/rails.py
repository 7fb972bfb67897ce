"""The demo's Rails app, copied into the folder of a run, with jobs for benchmarks."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.site import Site

SOURCE = ROOT / "rails_app"
JOBS = (("app/jobs", "bench_write_job.rb"), ("app/jobs", "bench_find_job.rb"))


def rails_copy(site: Site) -> Path:
    """The app's folder; made on first use."""
    target = site.folder / "app"
    if not target.exists():
        shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("tmp", "log", "*.sqlite3*", "test"))
        for place, name in (*JOBS, ("config/initializers", "zz_quiet.rb")):
            shutil.copy(ROOT / "benchmarks/apps/rails" / name, target / place / name)
    return target


def rails_environment(site: Site) -> dict[str, str]:
    """Production, quiet, with a database of its own."""
    found = {"RAILS_ENV": "production", "RACK_ENV": "production", "RAILS_LOG_LEVEL": "warn"}
    return found | {"BRIDGE_DEMO_DB": str(site.folder / "bench.sqlite3"), "SECRET_KEY_BASE": "0" * 64}
