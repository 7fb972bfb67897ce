"""The command line."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT

RESULTS = ROOT / "benchmarks/results.json"

EPILOG = """
A full run takes about 40 minutes on two cores, --quick about 15. Run it on a quiet machine.
Ctrl-C ends it, leaves no process, and reports what was found so far.
"""


@dataclass(frozen=True)
class Options:
    """The scenarios and peers to run; empty means all."""

    only: tuple[str, ...]
    peers: tuple[str, ...]
    rounds: int
    quick: bool
    scale: float
    sizes_ms: tuple[float, ...]
    seed: int
    json: Path
    merge: bool
    report: Path | None
    list: bool
    worker_arguments: tuple[str, ...]
    worker_env: tuple[tuple[str, str], ...]


def parse(arguments: Sequence[str]) -> Options:
    """Options of ``scripts/bench``. Exits with a sentence where they are wrong."""
    given = _parser().parse_args(arguments)
    return Options(
        only=tuple(given.only),
        peers=tuple(given.peers),
        rounds=given.rounds or (1 if given.quick else 3),
        quick=given.quick,
        scale=given.scale,
        sizes_ms=given.ms,
        seed=random.randrange(1 << 31) if given.seed is None else given.seed,
        json=given.json,
        merge=given.merge,
        report=given.report,
        list=given.list,
        worker_arguments=tuple(given.worker_args.split()),
        worker_env=tuple(given.env),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="The bridge beside Sidekiq, stock Celery and a naive bridge, in turn, in the same run.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="SCENARIO", help="part of a name; may be repeated")
    add("--peers", action="append", default=[], metavar="PEER", help="part of a label; the base always runs")
    add("--rounds", type=_positive, help="3, with --quick 1")
    add("--quick", action="store_true", help="short loads: for a look, not for a claim")
    add("--scale", type=_factor, default=1.0, metavar="FACTOR", help="of the length of all loads")
    add(
        "--ms",
        type=_sizes,
        default=(),
        metavar="3,8",
        help="other sizes of computing and waiting jobs, only these",
    )
    add("--seed", type=int, help="of the order; printed, so that it can be had again")
    add("--json", type=Path, default=RESULTS, metavar="FILE", help="where to write (benchmarks/results.json)")
    add("--merge", action="store_true", help="keep the other scenarios of the file")
    add(
        "--report",
        type=Path,
        metavar="FILE",
        help="measure nothing: write chart and figures of the docs from FILE",
    )
    add("--list", action="store_true", help="names of the scenarios and their rows")
    add("--worker-args", default="", metavar="'-P threads'", help="more arguments for the bridge's workers")
    add(
        "--env",
        type=_variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for the bridge's workers",
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds: write 1 or more")
    return int(text)


def _factor(text: str) -> float:
    if len(sizes := _sizes(text)) == 1:
        return sizes[0]
    raise argparse.ArgumentTypeError(f"{text!r} is not one factor")


def _sizes(text: str) -> tuple[float, ...]:
    try:
        sizes = tuple(float(word) for word in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write milliseconds, separated by commas, such as 3,8")
    return sizes


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=VALUE")
    return name, value
