from __future__ import annotations

import json
import os
import xml.dom.minidom
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import figures, goals, options, procfs, results
from benchmarks.__main__ import choose
from benchmarks.cast import new_cast
from benchmarks.goals import Goal, Verdict
from benchmarks.loads import ID, Load, active_job_payload
from benchmarks.peers.base import Setup
from benchmarks.peers.bridge import Tuning
from benchmarks.peers.stock import message
from benchmarks.report import markdown, publish, table, text
from benchmarks.report.chart import chart
from benchmarks.results import Found, Results
from benchmarks.roots import RubyRoot
from benchmarks.scenarios import FULL, QUICK, Scenario, label_of, scenarios

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
    labels = {each.name: {row.label for row in each.rows} for each in everything()}

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
    for scenario in everything():
        labels = [row.label for row in scenario.rows]
        assert scenario.base in labels
        assert len(set(labels)) == len(labels), scenario.name


def test_the_newest_sidekiq_is_the_base_and_the_sidecar_runs_beside_it() -> None:
    cast = new_cast(ROOTS, Tuning())

    assert label_of(cast.base, Setup()) == "Sidekiq 8.1 -c 20"
    assert cast.bridge.root == ROOTS[-1]
    assert label_of(cast.bridge, Setup()) == goals.ONE_SIDECAR


def test_other_sizes_take_the_place_of_the_usual_ones() -> None:
    chosen = options.parse(["--ms", "3,8"])
    made = scenarios(new_cast(ROOTS, Tuning()), FULL, chosen.sizes_ms, chosen.sizes_ms)

    names = [scenario.name for scenario in choose(made, chosen)]

    assert names == ["3 ms Ruby CPU", "8 ms Ruby CPU", "3 ms waiting", "8 ms waiting"]


def test_the_base_runs_whichever_peers_are_asked_for() -> None:
    chosen = choose(everything(), options.parse(["--only", "native no-op", "--peers", "bridge, native"]))

    assert [row.label for row in chosen[0].rows] == ["Sidekiq 8.1 -c 20", goals.ONE_NATIVE]


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
    waits = next(row for each in everything() if each.name == "10 ms waiting" for row in each.rows)

    assert cast.native.expected_rate(waits.method.load, Setup()) == 2000
    assert cast.celery.expected_rate(waits.method.load, Setup()) == cast.celery.noop_rate


# -- jobs


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

    measured.merge(Results(MACHINE, {"native no-op": newer}))

    assert set(measured.scenarios) == {"idle", "native no-op"}
    assert measured.scenarios["native no-op"] is newer


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
    made = chart(measured)

    xml.dom.minidom.parseString(made)
    assert made.count("<rect") == 1 + len(measured.scenarios["native no-op"].rows)
    assert "a &lt;fast&gt; one" in made


def test_the_published_figures_are_those_of_the_kept_results() -> None:
    kept = results.read(publish.ROOT / publish.KEPT)

    for path, wanted in publish.published(kept).items():
        assert path.read_text(encoding="utf-8") == wanted, f"run scripts/bench --report {publish.KEPT}"
