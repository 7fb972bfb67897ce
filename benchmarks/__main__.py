"""``make bench``: every scenario against its peers, in turn, several rounds; medians and ratios."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from benchmarks import options as command_line
from benchmarks import processes, results
from benchmarks.cast import new_cast
from benchmarks.machine import machine
from benchmarks.options import Options
from benchmarks.peers.bridge import Tuning
from benchmarks.report import publish, text
from benchmarks.roots import find_roots
from benchmarks.runner import Runner
from benchmarks.scenarios import FULL, QUICK, REAL_KB, Scenario, scenarios

#: Scenarios that exist for each size of a job.
SIZED = (" ms Ruby CPU", " ms Python CPU", " ms waiting")


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for. Returns the exit status: 1 where a measurement failed, 130 after Ctrl-C."""
    options = command_line.parse(arguments)
    if options.report:
        publish.publish(results.read(options.report))
        return 0
    roots, notes = find_roots()
    if not roots:
        sys.exit("benchmark: no Ruby with Sidekiq was found; run scripts/setup")
    tuning = Tuning(options.worker_arguments, dict(options.worker_env))
    scale = (QUICK if options.quick else FULL).times(options.scale)
    chosen = choose(scenarios(new_cast(roots, tuning), scale, options.sizes_ms), options)
    if options.list:
        print("\n".join(_listing(chosen)))
        return 0
    found = results.Results(machine(roots), notes=notes)
    return _run(chosen, options, found)


def choose(everything: Sequence[Scenario], options: Options) -> list[Scenario]:
    """The scenarios and rows that are asked for. Exits with a sentence where that is none."""
    only = options.only or (SIZED if options.sizes_ms else ("",))
    chosen = [each for each in everything if any(part in each.name for part in only)]
    if not chosen:
        names = ", ".join(each.name for each in everything)
        sys.exit(f"benchmark: no scenario is called like {', '.join(only)}; there are: {names}")
    return [_with_peers(each, options.peers) for each in chosen] if options.peers else chosen


def _with_peers(scenario: Scenario, peers: Sequence[str]) -> Scenario:
    wanted = [r for r in scenario.rows if r.label == scenario.base or any(part in r.label for part in peers)]
    return replace(scenario, rows=tuple(wanted))


def _listing(chosen: Sequence[Scenario]) -> list[str]:
    return [line for each in chosen for line in (each.name, *(f"    {row.label}" for row in each.rows))]


def _run(chosen: Sequence[Scenario], options: Options, found: results.Results) -> int:
    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    settings: dict[str, object] = {
        "rounds": options.rounds,
        "seed": options.seed,
        "quick": options.quick,
        "scale": options.scale,
    }
    settings |= {"worker_arguments": options.worker_arguments, "worker_env": dict(options.worker_env)}
    settings |= {"bridge": found.machine["bridge"], "date": found.machine["date"], "payload_kb": REAL_KB}
    before = results.read(options.json) if options.merge and options.json.exists() else None

    def write() -> None:
        results.merged(before, found).write(options.json)

    runner = Runner(found, settings, lambda line: print(line, flush=True), write)
    print(f"seed {options.seed}, {options.rounds} rounds", *found.notes, sep="\n", flush=True)
    interrupted = False
    try:
        runner.run(chosen, options.rounds, random.Random(options.seed))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        processes.end_orphans()
    write()
    print(text.report(found))
    return 130 if interrupted else int(bool(found.errors))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
