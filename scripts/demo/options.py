"""The arguments of `make demo ARGS="..."`. The environment sets nothing: what the demo touches is typed."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from scripts.demo.place import ROOT


@dataclass(frozen=True)
class Options:
    """How this run of the demo differs from the usual one."""

    once: bool
    size: int
    timeout_seconds: float
    verbose: bool
    stock_sidekiq: bool
    directory: Path
    redis_url: str | None
    share_redis: bool


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line. Exits with 2 and a sentence for what argparse cannot read."""
    parser = argparse.ArgumentParser(prog="make demo", description="Starts the whole system on this machine.")
    add = parser.add_argument
    add("--once", action="store_true", help="run the jobs, stop everything, exit 0 if all ended as expected")
    add("--size", type=int, default=20, metavar="N", help="plain jobs in the mix (20)")
    add("--timeout", type=float, default=180.0, metavar="SECONDS", help="how long the jobs may take (180)")
    add("--verbose", action="store_true", help="show the output of every service")
    add("--stock-sidekiq", action="store_true", help="run Sidekiq itself instead of worker and sidecar")
    add("--directory", type=Path, default=ROOT / "tmp" / "demo", help="where data and logs go (tmp/demo)")
    add("--redis", metavar="URL", help="use this Redis; the demo starts its own without it")
    add("--share-redis", action="store_true", help="use it although another application works on it")
    read = parser.parse_args(arguments)
    if read.share_redis and not read.redis:
        parser.error("--share-redis says something about --redis URL: give both")
    return Options(
        read.once,
        read.size,
        read.timeout,
        read.verbose,
        read.stock_sidekiq,
        read.directory.resolve(),
        read.redis,
        read.share_redis,
    )
