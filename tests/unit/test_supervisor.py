"""The parts of `bridge up`: cores, command lines, lines of the log, restarts."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import ConfigurationError
from bridge.settings import Address, Settings
from bridge.supervisor import slot as slots
from bridge.supervisor.cores import usable_cores
from bridge.supervisor.output import Output, marked
from bridge.supervisor.programs import Plan, Program
from bridge.supervisor.slot import Slot


def settings(**said: Any) -> Settings:
    return Settings(**said)


def plan(*options: str, workers: int = 2, **more: Any) -> Plan:
    return Plan(more.pop("settings", settings()), "bridge", workers, options, environ={}, **more)


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("quotas", "own", "cores"),
    [
        ({}, "0::/\n", 4),
        ({"a/b/cpu.max": "max 100000"}, "0::/a/b\n", 4),
        ({"a/b/cpu.max": "200000 100000"}, "0::/a/b\n", 2),
        ({"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 1),
        ({"cpu.max": "150000 100000"}, "0::/\n", 2),
        ({"cpu.max": "1000 100000"}, "0::/../elsewhere\n", 1),
        ({"cpu.max": "800000 100000"}, "0::/\n", 4),
        ({"cpu/x/cpu.cfs_quota_us": "100000", "cpu/x/cpu.cfs_period_us": "50000"}, "3:cpu,cpuacct:/x\n", 2),
        ({"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "50000"}, "3:cpu,cpuacct:/x\n", 4),
        ({"cpu.max": "nonsense"}, "0::/\n", 4),
    ],
)
def test_cores_are_bounded_by_every_cgroup_above(
    tmp_path: Path, quotas: dict[str, str], own: str, cores: int
) -> None:
    for name, text in quotas.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "own").write_text(own)
    assert usable_cores(tmp_path, tmp_path / "own") == cores


def test_each_worker_has_its_own_port_and_name() -> None:
    first, second = (plan("-c", "5").worker(number, None) for number in (1, 2))
    assert (first.environment["BRIDGE_HEALTH_BIND"], second.environment["BRIDGE_HEALTH_BIND"]) == (
        "127.0.0.1:9394",
        "127.0.0.1:9395",
    )
    assert list(second.command[-4:]) == ["-n", "worker2@%h", "-c", "5"]


def test_a_free_port_stays_a_free_port_and_a_name_of_the_users_own_stays() -> None:
    second = plan("-n", "mine@%h", settings=settings(health_bind=Address("::1", 0))).worker(2, None)
    assert second.environment["BRIDGE_HEALTH_BIND"] == "[::1]:0"
    assert "worker2@%h" not in second.command


@pytest.mark.parametrize(
    ("options", "puma", "threads"),
    [
        (("-c", "10"), None, "10"),
        (("-c10",), None, "10"),
        (("--concurrency=10",), 4, "5"),
        (("--concurrency", "9"), 4, "5"),
        ((), 2, "7"),
    ],
)
def test_the_sidecar_has_a_slot_for_each_job_of_its_workers(
    options: tuple[str, ...], puma: int | None, threads: str, tmp_path: Path
) -> None:
    made = plan(*options, settings=settings(concurrency=7), sidecar=tmp_path, puma=puma)
    program = made.sidecar_program(1)
    command = list(program.command)
    assert program.environment["RAILS_MAX_THREADS"] == threads
    assert command[command.index("--threads") + 1] == threads
    assert command[command.index("--workers") + 1] == str(puma or 2)


def test_the_apps_own_bundle_starts_the_sidecar(tmp_path: Path) -> None:
    (tmp_path / "Gemfile.lock").write_text("    sidekiq-bridge-sidecar (0.1.0)\n")
    program = plan(sidecar=tmp_path).sidecar_program(1)
    assert list(program.command[:3]) == ["bundle", "exec", "sidecar"]
    assert program.directory == tmp_path


def test_ports_above_the_highest_one_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="Choose a lower port"):
        plan(settings=settings(health_bind=Address("127.0.0.1", 65_535))).check()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"ts": 1}', b'{"process": "worker.1", "ts": 1}'),
        (b"INFO done", b"worker.1 | INFO done"),
        (b"{}", b"worker.1 | {}"),
    ],
)
def test_a_line_tells_its_process(line: bytes, expected: bytes) -> None:
    assert marked(line, "worker.1") == expected


def test_lines_of_two_pipes_stay_whole() -> None:
    # Given two pipes, and lines that arrive in pieces
    target_reader, target = os.pipe()
    output = Output(target, target, as_json=False)
    pipes = [os.pipe(), os.pipe()]
    tails = [output.copy(reader, f"p{n}", target) for n, (reader, _) in enumerate(pipes)]
    for piece in (b"ab", b"c\nd"):
        for _, writer in pipes:
            os.write(writer, piece)
            time.sleep(0.01)
    for _, writer in pipes:
        os.close(writer)
    # Then each line is written at once, the last one although it has no end
    assert [tail.text() for tail in tails] == ["d", "d"]
    output.close()
    os.close(target)
    with os.fdopen(target_reader, "rb") as read:
        assert sorted(read.read().split()) == sorted(b"p0 | abc p0 | d p1 | abc p1 | d".split())


class Dead:
    """A child that has ended."""

    def __init__(self, lived: float | None) -> None:
        self.ready_at = None if lived is None else time.monotonic() - lived


def test_pauses_double_while_processes_die_young_and_begin_again_after_a_sound_one() -> None:
    slot = Slot(Program("w", [], {}), lambda _: None)  # type: ignore[arg-type, return-value]
    young: list[float] = [slot.ended(Dead(None)) for _ in range(7)]  # type: ignore[arg-type]
    assert young == [1, 2, 4, 8, 16, 30, 30]
    assert slot.ended(Dead(slots.SOUND_SECONDS + 1)) == 0  # type: ignore[arg-type]
    assert slot.ended(Dead(0.5)) == 1  # type: ignore[arg-type]
