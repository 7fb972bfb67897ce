"""``make bench``: every scenario against its peers, in turn, several rounds; medians and ratios."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import redis

from benchmarks.peers import Bridge, Load, Peer, Sidekiq, StockCelery
from benchmarks.processes import cpu_seconds, free_port, rss_bytes, running, wait_until


def scenarios(matrix: str) -> dict[str, list[tuple[Peer, Load]]]:
    """Name -> peers with their loads; the first peer is the base of the ratios."""
    sidekiq: list[Peer] = [Sidekiq("Sidekiq (system)")]
    for name, folder in (("Sidekiq 7.3", "trixie"), ("Sidekiq 8.1", "sid")):
        if (Path(matrix) / folder / "usr/bin/sidekiq").exists():
            sidekiq.append(Sidekiq(name, str(Path(matrix) / folder)))
    native: list[tuple[Peer, Load]] = [(Bridge("bridge, native"), Load("NativeNoop", (1,), 20_000))]
    native += [(StockCelery("Celery, stock transport", "threads", 20), Load("noop", (1,), 3_000))]
    noop: list[tuple[Peer, Load]] = [(peer, Load("NoopJob", (1,), 20_000)) for peer in sidekiq]
    ruby: list[tuple[Peer, Load]] = [
        (Bridge(f"bridge, {n} Puma", n), Load("NoopJob", (1,), 10_000)) for n in (1, 2)
    ]
    wait: list[tuple[Peer, Load]] = [
        (peer, Load("WaitJob", (10,), 5_000)) for peer in (*sidekiq, Bridge("bridge, 2 Puma", 2))
    ]
    cpu: list[tuple[Peer, Load]] = [
        (peer, Load("CpuJob", (5,), 800)) for peer in (*sidekiq, Bridge("bridge, 2 Puma", 2))
    ]
    return {
        "native no-op": [*noop, *native],
        "sidecar no-op": [*noop, *ruby],
        "10 ms waiting": wait,
        "5 ms Ruby CPU": cpu,
    }


def measure(peer: Peer, load: Load, folder: Path) -> dict[str, float]:
    """One run of one peer on a Redis of its own."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    server = redis.Redis(port=port)
    command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"]
    with running(command, {}, folder / "redis.log"):
        wait_until(lambda: _answers(server), 10, "Redis")
        with peer.started(server, url, folder):
            _warm_up(peer, server, load)
            before, memory, started = cpu_seconds(peer.pids), 0, time.perf_counter()
            peer.fill(server, load)
            while server.llen(peer.queue):
                memory = max(memory, rss_bytes(peer.pids)) if int(time.time() * 4) % 4 == 0 else memory
                time.sleep(0.01)
            seconds = time.perf_counter() - started
            used = cpu_seconds(peer.pids) - before
            memory = max(memory, rss_bytes(peer.pids))
    return {
        "jobs_per_second": load.jobs / seconds,
        "cpu_us_per_job": used / load.jobs * 1e6,
        "rss_mb": memory / 1e6,
    }


def _warm_up(peer: Peer, server: redis.Redis, load: Load) -> None:
    peer.fill(server, Load(load.job_class, load.args, max(50, load.jobs // 20)))
    wait_until(lambda: server.llen(peer.queue) == 0, 60, f"the warm-up of {peer.name}")
    time.sleep(0.5)


def _answers(server: redis.Redis) -> bool:
    try:
        return bool(server.ping())
    except redis.ConnectionError:
        return False


def main() -> None:
    """Run, print, and write ``benchmarks/results.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", help="name of a scenario (may be repeated)")
    parser.add_argument(
        "--matrix", default=os.environ.get("BRIDGE_MATRIX", ""), help="folder with the change-roots"
    )
    options = parser.parse_args()
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    chosen = {n: s for n, s in scenarios(options.matrix).items() if not options.only or n in options.only}
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder:
        for round_number in range(options.rounds):
            for name, peers in chosen.items():
                for peer, load in peers:
                    found = measure(peer, load, Path(folder))
                    results.setdefault(name, {}).setdefault(peer.name, []).append(found)
                    print(f"round {round_number + 1}  {name:16} {peer.name:26} {_line(found)}", flush=True)
    report(results)


def report(results: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    """Medians, and each peer's rate against the first one's of the same round."""
    machine = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ruby": subprocess.run(["ruby", "-v"], capture_output=True, text=True, check=False).stdout.strip(),
        "celery": __import__("celery").__version__,
    }
    print(f"\n{machine}")
    for name, peers in results.items():
        print(f"\n{name}")
        base = next(iter(peers.values()))
        for peer, runs in peers.items():
            ratios = [r["jobs_per_second"] / b["jobs_per_second"] for r, b in zip(runs, base, strict=True)]
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            print(f"  {peer:26} {_line(middle)}   x {statistics.median(ratios):.2f}")
    Path(__file__).with_name("results.json").write_text(
        json.dumps({"machine": machine, "runs": results}, indent=1)
    )


def _line(found: dict[str, float]) -> str:
    rate, cpu, memory = found["jobs_per_second"], found["cpu_us_per_job"], found["rss_mb"]
    return f"{rate:8.0f} jobs/s {cpu:7.0f} us CPU/job {memory:6.0f} MB"


if __name__ == "__main__":
    main()
