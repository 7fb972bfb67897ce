from __future__ import annotations

import json
import os
import random
import subprocess
import xml.dom.minidom
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import figures, goals, options, procfs, results
from benchmarks.__main__ import choose
from benchmarks.cast import new_cast
from benchmarks.goals import Goal, Verdict
from benchmarks.loads import ID, Load, active_job_payload
from benchmarks.methods.fleet import Used, cost
from benchmarks.peers.base import Peer, Setup, Start
from benchmarks.peers.bridge import Tuning
from benchmarks.peers.crowd import Crowd
from benchmarks.peers.stock import message
from benchmarks.report import markdown, publish, table, text
from benchmarks.report.chart import chart
from benchmarks.results import Found, Results
from benchmarks.roots import RubyRoot
from benchmarks.runner import Runner
from benchmarks.scenarios import FULL, QUICK, Scenario, label_of, scenarios
from benchmarks.scenarios.model import row, scenario
from benchmarks.site import Site

ROOTS = [RubyRoot("", "6.4.1", "3.1.2"), RubyRoot("/sid", "8.1.7", "3.3.8")]
MACHINE = {
    "date": "2026-01-01",
    "cores": 2,
    "cpu": "a <fast> one",
    "memory_gb": 8,
    "kernel": "6",
    "python": "3.11",
}
MACHINE |= {"packages": {"celery": "5.7.0"}, "redis_server": "7", "rubies": {"Sidekiq 8.1.7": "Ruby 3.3.8"}}
MACHINE |= {"bridge": "abc"}


def rate(*rates: float) -> list[figures.Sample | None]:
    return [{"jobs_per_second": found, "cpu_us_per_job": 1e6 / found} for found in rates]


def found(**rows: list[figures.Sample | None]) -> Found:
    made = Found("jobs_per_second", "Sidekiq 8.1 -c 20", "Nothing.", "2026-01-01", {"seed": 7, "quick": True})
    made.rows = {"Sidekiq 8.1 -c 20": rate(100, 200, 300), goals.ONE_NATIVE: rate(90, 220, 270), **rows}
    return made


@pytest.fixture
def measured() -> Results:
    return Results(MACHINE, {"native no-op": found()}, ["Sidekiq of trixie is left out: no root"])


def everything() -> list[Scenario]:
    return scenarios(new_cast(ROOTS, Tuning()), FULL)


# -- arithmetic


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (1, 1), (0.5, 1)], ids=str)
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    assert figures.percentile(range(100, 0, -1), percent) == expected


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        figures.percentile([], 50)


def test_the_ratio_is_that_of_the_rounds_and_not_of_the_medians() -> None:
    # Given a machine that became ten times slower after the first round
    ours, theirs = rate(1000, 60, 50), rate(500, 100, 100)

    assert figures.ratios(ours, theirs, "jobs_per_second") == [2.0, 0.6, 0.5]
    assert figures.median_ratio(ours, theirs, "jobs_per_second") == 0.6


def test_a_round_without_one_of_both_has_no_ratio() -> None:
    assert figures.ratios([None, *rate(50)], rate(100, 100), "jobs_per_second") == [0.5]
    assert figures.median_ratio([None], rate(100), "jobs_per_second") is None
    assert figures.median([None], "jobs_per_second") is None


def test_the_spread_is_half_of_the_range() -> None:
    assert figures.spread([0.8, 1.0, 1.2]) == pytest.approx(0.2)
    assert figures.spread([1.0]) == 0.0


# -- goals


@pytest.mark.parametrize(
    ("value", "at_least", "reached"),
    [(0.9, True, True), (0.896, True, True), (0.89, True, False), (0.9, False, True), (0.91, False, False)],
)
def test_a_goal_counts_as_it_is_printed(value: float, at_least: bool, reached: bool) -> None:
    goal = Goal("x", "s", "r", "m", None, 0.9, at_least)

    assert Verdict(goal, value).reached is reached


def test_what_was_not_measured_is_neither_reached_nor_missed(measured: Results) -> None:
    by_text = {verdict.goal.text: verdict for verdict in goals.verdicts(measured)}

    assert by_text["native no-op"].value == 0.9
    assert by_text["native no-op"].word == "not reached"
    assert by_text["memory, to two Sidekiq processes of the same Rails app"].word == "not measured"


def test_every_goal_names_rows_that_the_scenarios_have() -> None:
    labels = {each.name: {one.label for one in each.rows} for each in everything()}

    for goal in goals.GOALS:
        assert goal.row in labels[goal.scenario]
        assert not goal.beside or goal.beside in labels[goal.scenario]


def test_every_metric_of_a_goal_is_shown_in_its_scenario() -> None:
    metrics = {each.name: each.metric for each in everything()}

    for goal in goals.GOALS:
        first = metrics[goal.scenario]
        assert goal.metric in (first, *table.COLUMNS[first])


# -- scenarios


def test_every_scenario_has_its_base_and_no_label_twice() -> None:
    for each in everything():
        labels = [one.label for one in each.rows]
        assert each.base in labels
        assert len(set(labels)) == len(labels), each.name


def test_the_newest_sidekiq_is_the_base_and_the_sidecar_runs_beside_it() -> None:
    cast = new_cast(ROOTS, Tuning())

    assert label_of(cast.base, Setup()) == "Sidekiq 8.1 -c 20"
    assert cast.bridge.root == ROOTS[-1]
    assert label_of(cast.bridge, Setup()) == goals.ONE_SIDECAR


def test_other_sizes_take_the_place_of_the_usual_ones() -> None:
    chosen = options.parse(["--ms", "3,8"])
    made = scenarios(new_cast(ROOTS, Tuning()), FULL, chosen.sizes_ms)

    names = [each.name for each in choose(made, chosen)]

    assert names == [f"{size} ms {kind}" for kind in ("Ruby CPU", "Python CPU", "waiting") for size in (3, 8)]


def test_the_base_runs_whichever_peers_are_asked_for() -> None:
    chosen = choose(everything(), options.parse(["--only", "native no-op", "--peers", "bridge, native"]))

    assert [one.label for one in chosen[0].rows] == ["Sidekiq 8.1 -c 20", goals.ONE_NATIVE]


def test_a_scenario_that_nobody_knows_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(
        SystemExit, match=r"no scenario is called like no-opp; there are: native no-op, sidecar"
    ):
        choose(everything(), options.parse(["--only", "no-opp"]))


@pytest.mark.parametrize(
    "wrong",
    [["--ms", "a"], ["--ms", "0"], ["--rounds", "0"], ["--env", "X"], ["--scale", "1,2"]],
    ids=" ".join,
)
def test_a_wrong_option_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options.parse(wrong)

    assert wrong[1] in capsys.readouterr().err


def test_quick_is_one_round_unless_more_are_asked_for() -> None:
    assert options.parse(["--quick"]).rounds == 1
    assert options.parse(["--quick", "--rounds", "2"]).rounds == 2
    assert options.parse([]).rounds == 3
    assert QUICK.times(0.5).throughput == QUICK.throughput / 2


def test_more_jobs_for_whoever_is_faster_so_that_all_take_as_long() -> None:
    cast = new_cast(ROOTS, Tuning())
    waits = next(one for each in everything() if each.name == "10 ms waiting" for one in each.rows)

    assert cast.native.expected_rate(waits.method.load, Setup()) == 2000
    assert cast.celery.expected_rate(waits.method.load, Setup()) == cast.celery.noop_rate


class Counted(Peer):
    """A peer that counts how often it is measured, and may fail."""

    def starts(self, site: Site, setup: Setup) -> list[Start]:
        return []


def measured_rounds(made: Sequence[Scenario], rounds: int) -> tuple[Results, list[str]]:
    """The results of all rounds, and what the file held after each family."""
    kept: list[str] = []
    everything = Results(MACHINE)
    runner = Runner(everything, {}, lambda line: None, lambda: kept.append(str(everything.scenarios)))
    runner.run(made, rounds, random.Random(1))
    return everything, kept


def fine(peer: Peer, setup: Setup, site: Site) -> figures.Sample:
    return {"jobs_per_second": 100.0}


def broken(peer: Peer, setup: Setup, site: Site) -> figures.Sample:
    raise RuntimeError("the peer has a fault")


def odd(peer: Peer, setup: Setup, site: Site) -> figures.Sample:
    return {"another_metric": 1.0}


def test_measurements_end_no_process_of_another_who_runs_them() -> None:
    """In the process of this test they are other tests' children: their Redis was killed here."""
    others = subprocess.Popen(["sleep", "60"])
    try:
        measured_rounds([scenario("short", "jobs_per_second", [row(Counted("often"), fine)], "")], 1)

        assert others.poll() is None
    finally:
        others.kill()
        others.wait()


def test_a_row_for_comparison_and_a_long_scenario_are_measured_in_the_first_round_only() -> None:
    often, once = row(Counted("often"), fine), row(Counted("once"), fine, once=True)
    made = [
        scenario("short", "jobs_per_second", [often, once], ""),
        scenario("long", "jobs_per_second", [often], "", rounds=1),
    ]

    found, _ = measured_rounds(made, 3)

    assert [len(samples) for samples in found.scenarios["short"].rows.values()] == [3, 1]
    assert [len(samples) for samples in found.scenarios["long"].rows.values()] == [1]


def test_a_measurement_that_fails_costs_no_other_and_no_result() -> None:
    made = [
        scenario("bad", "jobs_per_second", [row(Counted("a"), broken), row(Counted("b"), odd)], ""),
        scenario("good", "jobs_per_second", [row(Counted("c"), fine)], ""),
    ]

    found, kept = measured_rounds(made, 1)

    assert found.scenarios["good"].rows["c -c 20"] == [{"jobs_per_second": 100.0}]
    assert found.scenarios["bad"].rows["a -c 20"] == [None]
    assert found.errors == ["a -c 20: RuntimeError('the peer has a fault')"]
    assert len(kept) == 2, "written after each family: a run that is killed has lost one at most"
    assert "FAILED a -c 20" in text.report(found)


def test_every_scenario_says_its_limit() -> None:
    for each in everything():
        assert "Limit: " in each.what, each.name


# -- fleets


def test_the_cost_of_a_push_is_what_the_fleet_uses_beyond_its_idle_time() -> None:
    # Given a fleet that uses 20 commands, 10 ms of CPU and 2 ms of Redis a second without jobs
    idle = Used(10.0, 200.0, 0.1, 0.02)
    # When it uses these in 5 and in 2 seconds with jobs
    calm, busy = Used(5.0, 170.0, 0.15, 0.03), Used(2.0, 740.0, 0.22, 0.054)

    found = cost(idle, (calm, 10), (busy, 100))

    # Then the idle part of the same time does not count
    assert found["commands_per_job"] == pytest.approx(7.0)
    assert found["cpu_ms_per_job"] == pytest.approx(10.0)
    assert found["busy_commands_per_job"] == pytest.approx(7.0)
    assert found["busy_cpu_ms_per_job"] == pytest.approx(2.0)
    assert found["redis_us_per_job"] == pytest.approx(500.0)
    # And one Redis carries what its core has left beside the idle fleet
    assert found["carried_per_second"] == pytest.approx((1 - 0.002) * 2000)


def test_workers_begin_together_and_after_what_they_need() -> None:
    setup = Setup(workers=3)
    starts = new_cast(ROOTS, Tuning()).bridge.starts(Site(None, "", 0, Path("/x")), setup)

    assert [start.name for start in starts] == ["sidecar", "worker-1", "worker-2", "worker-3"]


@pytest.mark.parametrize(("workers", "sizes"), [(1, [1]), (50, [50]), (120, [50, 50, 20])])
def test_a_crowd_is_divided_among_few_processes(workers: int, sizes: list[int]) -> None:
    starts = Crowd("x", "bridge").starts(Site(None, "redis://x", 0, Path("/x")), Setup(workers=workers))

    assert [int(start.command[4]) for start in starts] == sizes


# -- jobs


@pytest.mark.parametrize("kind", ["wait", "cpu"])
def test_a_job_with_a_duration_carries_a_payload_behind_it(kind: str) -> None:
    first, *rest = Load(kind, 5, kilobytes=1).args

    assert first == 5
    assert rest == [*Load("noop", kilobytes=1).args]
    assert Load(kind, 5).args == (5,)


@pytest.mark.parametrize("shape", ["records", "text"])
@pytest.mark.parametrize("kilobytes", [1, 10, 100])
def test_arguments_have_the_size_that_their_scenario_names(shape: str, kilobytes: int) -> None:
    written = json.dumps(Load("noop", kilobytes=kilobytes, shape=shape).args, separators=(",", ":"))

    assert len(written) == pytest.approx(kilobytes * 1000, abs=5)


def test_a_celery_message_carries_its_id_wherever_celery_wants_it() -> None:
    made = message("noop", (1,), ID)

    assert made.count(ID) >= 4
    assert '"routing_key": "celery"' in made


def test_an_active_job_is_wrapped_as_its_adapter_does() -> None:
    made = active_job_payload("BenchWriteJob", (1,), "default")

    assert '"class":"ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"' in made
    assert '"wrapped":"BenchWriteJob"' in made


# -- processes


def test_cpu_and_memory_of_a_process_are_its_own() -> None:
    before = procfs.cpu_seconds([os.getpid()])
    ballast = b"x" * 50_000_000
    sum(range(3_000_000))

    assert procfs.cpu_seconds([os.getpid()]) > before
    assert procfs.pss_bytes([os.getpid()]) > len(ballast)
    assert procfs.cpu_seconds([1 << 22]) == 0.0, "a process that is gone costs nothing"


# -- reports


def test_results_come_back_from_their_file(measured: Results, tmp_path: Path) -> None:
    measured.write(tmp_path / "r.json")

    assert results.read(tmp_path / "r.json") == measured


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2, "scenarios": {"a": {}}}'])
def test_a_file_without_results_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)

    with pytest.raises(ValueError, match="holds no results of these benchmarks"):
        results.read(tmp_path / "r.json")


def test_merging_replaces_a_scenario_and_keeps_the_others(measured: Results) -> None:
    newer = found()
    measured.scenarios["idle"] = replace(newer, metric="commands_per_second")

    merged = results.merged(measured, Results(MACHINE, {"native no-op": newer}))

    assert set(merged.scenarios) == {"idle", "native no-op"}
    assert merged.scenarios["native no-op"] is newer


def test_a_run_that_ended_early_takes_no_older_scenario_away(measured: Results) -> None:
    # Given a run that was killed before it measured anything, or in which everything failed
    nothing = found()
    nothing.rows = {"Sidekiq 8.1 -c 20": [], goals.ONE_NATIVE: [None]}

    merged = results.merged(measured, Results(MACHINE, {"native no-op": nothing, "idle": nothing}))

    assert merged.scenarios == measured.scenarios


def test_the_first_run_needs_no_earlier_one(measured: Results) -> None:
    assert results.merged(None, measured) is measured


def test_the_report_names_ratio_goal_machine_and_limits(measured: Results) -> None:
    measured.errors.append("Celery, threads -c 20: 600 jobs pushed, 599 executed, 0 left")

    said = text.report(measured)

    assert "0.90   11%" in said.replace("    ", "   ")
    assert "not reached" in said
    assert "FAILED Celery" in said
    assert "2 cores (a <fast> one)" in said
    assert "left out: no root" in said
    assert "Not shown:" in said


def test_the_docs_get_their_figures_between_the_markers(measured: Results) -> None:
    document = f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n"

    made = markdown.with_figures(document, measured)

    assert "old" not in made
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    assert markdown.with_figures(made, measured) == made
    with pytest.raises(ValueError, match="the document has no"):
        markdown.with_figures("nothing", measured)


def test_the_chart_is_valid_and_shows_every_row(measured: Results) -> None:
    measured.scenarios["1 KB of arguments"] = measured.scenarios["native no-op"]

    made = chart(measured)

    xml.dom.minidom.parseString(made)
    assert made.count("<rect") == 1 + len(measured.scenarios["native no-op"].rows)
    assert "a &lt;fast&gt; one" in made


@pytest.mark.parametrize(("kilobytes", "told"), [((1, 1), True), ((1, None), False), ((None, None), False)])
def test_the_chart_tells_the_payload_that_all_its_jobs_have(
    kilobytes: tuple[int | None, ...], told: bool
) -> None:
    shown = dict(zip(("1 KB of arguments", "failing job"), kilobytes, strict=True))
    made = {name: replace(found(), settings={"payload_kb": size}) for name, size in shown.items()}

    assert ("with 1 KB of arguments" in chart(Results(MACHINE, made))) is told


def test_the_published_figures_are_those_of_the_kept_results() -> None:
    kept = results.read(publish.ROOT / publish.KEPT)

    for path, wanted in publish.published(kept).items():
        assert path.read_text(encoding="utf-8") == wanted, f"run scripts/bench --report {publish.KEPT}"
