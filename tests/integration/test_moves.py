"""A class moves from Ruby to Python by the percent: `bridge move`, and what the workers do."""

from __future__ import annotations

import json
import os
import subprocess
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bridge import errors
from bridge.moves.move import Move
from bridge.moves.store import MoveStore
from tests.support.command import Bridge
from tests.support.probes import get
from tests.support.processes import ROOT, clean_environment
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage, new_jid
from tests.support.waiting import holds_for, wait_for, wait_until_equal
from tests.support.worker_process import CELERY, bridge_environment

TASKS = "tests.support.moving_coroutines"
#: A class that moves is heeded so soon by every worker.
HEEDED_SECONDS = 1.0

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def shared(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """One worker with native tasks for Ruby's classes, and its sidecar."""
    with Stage(redis_server, ruby_root, database=2) as stage:
        stage.start_sidecar(require=ROOT / "tests/support/ruby/moving_jobs.rb")
        stage.start_worker(module=TASKS)
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Stage:
    """The worker has forgotten the moves of the test before."""
    assert shared.worker is not None
    moving, seen = len(MoveStore(shared.redis).all()), len(shared.worker.log)
    shared.reset()
    log = shared.worker
    wait_until_equal(lambda: log.log[seen:].count(" moves no more"), moving, "the worker without moves")
    return shared


@pytest.fixture
def bridge(stage: Stage) -> Bridge:
    return bridge_of(stage)


def bridge_of(stage: Stage) -> Bridge:
    assert stage.sidecar is not None
    return Bridge(bridge_environment(stage.redis_url, stage.sidecar.url))


def change(stage: Stage, *words: str, heeded: str) -> None:
    """Run `bridge move`, and wait until the worker's log says that it heeds it: within a second."""
    assert stage.worker is not None
    worker, seen = stage.worker, len(stage.worker.log)
    bridge_of(stage)("move", *words).well()
    wait_for(lambda: heeded in worker.log[seen:], f"the worker to say {heeded!r}", HEEDED_SECONDS)


def wait_for_log(stage: Stage, sentence: str) -> None:
    worker = stage.worker
    assert worker is not None
    wait_for(lambda: sentence in worker.log, f"the worker to say {sentence!r}")


def jid_on(side: str, percent: float) -> str:
    """A jid that falls on this side at this percentage."""
    while True:
        jid = new_jid()
        if (zlib.crc32(jid.encode()) < percent / 100 * 2**32) == (side == "python"):
            return jid


def push(stage: Stage, job_class: str, jid: str, *args: object) -> str:
    return stage.push_job({"class": job_class, "jid": jid, "args": list(args), "retry": True})


def ran(stage: Stage, jid: str) -> list[str]:
    """Which code has run a job, in order: the Ruby jobs note another word."""
    sides = {"python": "python", "done": "ruby", "failed": "ruby"}
    return [sides[event] for event in stage.ledger.events(jid) if event in sides]


def attempts_of(stage: Stage, jid: str) -> int:
    return len(ran(stage, jid))


def test_the_jids_below_the_percentage_run_in_python_and_the_others_in_ruby(
    stage: Stage, bridge: Bridge
) -> None:
    change(stage, "EchoJob", "--percent", "20", heeded="EchoJob moves: 20 %")

    jids = {jid_on(side, 20): side for side in ("python", "ruby") for _ in range(20)}
    for jid in jids:
        push(stage, "EchoJob", jid)
    stage.wait_done()

    assert {jid: ran(stage, jid) for jid in jids} == {jid: [side] for jid, side in jids.items()}


def test_without_a_move_a_native_task_takes_all_jobs_and_back_gives_them_to_ruby(
    stage: Stage, bridge: Bridge
) -> None:
    first, second, third = (new_jid() for _ in range(3))
    push(stage, "EchoJob", first)
    stage.wait_done()
    change(stage, "EchoJob", "--back", heeded="EchoJob is back in Ruby")
    push(stage, "EchoJob", second)
    stage.wait_done()
    change(stage, "EchoJob", "--finish", heeded="EchoJob moves no more")
    push(stage, "EchoJob", third)
    stage.wait_done()

    assert [ran(stage, jid) for jid in (first, second, third)] == [["python"], ["ruby"], ["python"]]
    assert bridge("moves").well().out.startswith("no class moves")


def test_without_a_move_no_command_is_about_moves(stage: Stage) -> None:
    seen: list[str] = []
    with stage.redis.monitor() as monitor:
        jids = [push(stage, "EchoJob", new_jid()) for _ in range(20)]
        stage.wait_done()
        time.sleep(2.5)  # longer than counts of a move stay in memory
        stage.redis.echo("the end")
        while "the end" not in (command := str(monitor.next_command()["command"])):
            seen.append(command)
    assert [ran(stage, jid) for jid in jids] == [["python"]] * 20
    # The watch on the key is armed again after each reset; no job asks for anything.
    about = [command for command in seen if "bridge:move" in command]
    assert set(about) <= {"EXISTS bridge:moves"}
    assert len(about) < len(jids) / 2


def test_a_retry_stays_on_its_side_at_another_percentage(stage: Stage, bridge: Bridge) -> None:
    change(stage, "FailJob", "--percent", "50", "--no-guard", heeded="FailJob moves: 50 %")
    native, rubys = jid_on("python", 50), jid_on("ruby", 50)
    push(stage, "FailJob", native)
    push(stage, "FailJob", rubys)
    wait_until_equal(lambda: stage.redis.zcard("retry"), 2, "both in retry")
    sides = {
        json.loads(raw)["jid"]: json.loads(raw)["bridge_side"] for raw in stage.redis.zrange("retry", 0, -1)
    }
    assert sides == {native: "python", rubys: "ruby"}

    for percent in ("1", "100", "0"):
        change(stage, "FailJob", "--percent", percent, heeded=f"FailJob moves: {percent} %")
        attempts = len(ran(stage, native)) + 1
        stage.make_due("retry")
        for jid in (native, rubys):
            wait_until_equal(partial(attempts_of, stage, jid), attempts, "one more attempt")
        wait_until_equal(lambda: stage.redis.zcard("retry"), 2, "both in retry again")

    assert ran(stage, native) == ["python"] * 4
    assert ran(stage, rubys) == ["ruby"] * 4

    change(stage, "FailJob", "--back", heeded="FailJob is back in Ruby")
    stage.make_due("retry")
    wait_until_equal(lambda: ran(stage, native)[4:], ["ruby"], "the retry of a class that is back")


def test_a_move_that_changes_while_a_job_runs_leaves_the_run_on_its_side(
    stage: Stage, bridge: Bridge
) -> None:
    """A request that is filled in during the run asks no route again: it once became the other side's."""
    change(stage, "GateJob", "--percent", "100", "--no-guard", heeded="GateJob moves: 100 %")
    jid = push(stage, "GateJob", new_jid(), "later")
    stage.ledger.wait_for("python", jid)
    change(stage, "GateJob", "--back", heeded="GateJob is back in Ruby")
    active = subprocess.run(
        [CELERY, "-A", TASKS, "inspect", "active", "--json"],
        env={**clean_environment(), **bridge_environment(stage.redis_url, None)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (request,) = next(iter(json.loads(active.stdout).values()))
    assert (request["id"], request["type"]) == (jid, "GateJob")

    stage.ledger.open_gate("later")
    stage.wait_done()
    assert stage.ledger.events(jid) == ["python", "done"]
    stage.wait_counters(1, 0)
    wait_until_equal(
        lambda: [bridge("moves", "--json").json[0][side]["runs"] for side in ("python", "ruby")],
        [1, 0],
        "its side",
    )


def test_the_second_of_two_changes_at_the_same_moment_is_refused(stage: Stage) -> None:
    store = MoveStore(stage.redis)

    def change(before: Move | None, now_ms: int) -> Move:
        store.change("EchoJob", lambda _, now: Move("EchoJob").at(now, percent=5.0))
        return Move("EchoJob").at(now_ms, percent=50.0)

    with pytest.raises(errors.MoveConflict, match="another command changed the move of EchoJob"):
        store.change("EchoJob", change)
    assert store.all()["EchoJob"].percent == 5
    wait_for_log(stage, "EchoJob moves: 5 %")


def test_a_key_of_another_type_stops_no_worker(stage: Stage, bridge: Bridge) -> None:
    change(stage, "EchoJob", "--percent", "100", heeded="EchoJob moves: 100 %")
    stage.redis.set("bridge:moves", "nonsense")
    wait_for_log(stage, "the moves in bridge:moves cannot be read, and stay as they are")
    jid = push(stage, "EchoJob", new_jid())
    stage.wait_done()
    assert ran(stage, jid) == ["python"]
    assert bridge("moves").code == 1
    stage.redis.delete("bridge:moves")
    wait_for_log(stage, "EchoJob moves no more")


def test_the_doctor_names_a_move_that_goes_nowhere(stage: Stage, bridge: Bridge) -> None:
    store = MoveStore(stage.redis)
    store.change("GoneJob", lambda _, now: Move("GoneJob").at(now, percent=5.0))
    store.change("OtherJob", lambda _, now: Move("OtherJob").at(now, is_back=True, reason="it failed"))
    found = {each["code"]: each["seen"] for each in bridge("doctor", "--json").json}
    assert "GoneJob" in found["move-without-task"]
    assert "OtherJob" in found["move-taken-back"]
    wait_for_log(stage, "GoneJob moves: 5 %")
    wait_for_log(stage, "OtherJob is back in Ruby: it failed")


def test_both_sides_are_shown_beside_each_other(stage: Stage, bridge: Bridge) -> None:
    for name in ("SleepJob", "FailJob"):
        change(stage, name, "--percent", "50", heeded=f"{name} moves: 50 %")
    for side in ("python", "ruby"):
        for _ in range(5):
            push(stage, "SleepJob", jid_on(side, 50), 0.1)
            push(stage, "FailJob", jid_on(side, 50))
    stage.wait_done()

    def rows() -> dict[str, dict[str, object]]:
        return {row["job_class"]: row for row in bridge("moves", "--json").well().json}

    wait_for(lambda: rows()["FailJob"]["ruby"]["runs"] == 5, "the counts in Redis")
    found = rows()
    for side in ("python", "ruby"):
        assert found["FailJob"][side]["failures"] == 5
        assert found["FailJob"][side]["retries"] == 5
        assert found["SleepJob"][side]["failures"] == 0
        assert 90 <= found["SleepJob"][side]["p50_ms"] <= 200
        assert found["SleepJob"][side]["p95_ms"] >= found["SleepJob"][side]["p50_ms"]
    printed = bridge("moves").well().out
    assert [word for word in ("SleepJob", "Python", "Ruby") if word not in printed] == []


def test_the_guard_takes_a_class_with_a_bug_back_and_no_job_is_lost(stage: Stage, bridge: Bridge) -> None:
    change(stage, "OtherJob", "--percent", "50", heeded="OtherJob moves: 50 %")
    jids = [new_jid() for _ in range(200)]
    for jid in jids:
        push(stage, "OtherJob", jid)

    began = time.monotonic()
    wait_for(lambda: bridge("moves", "--json").well().json[0]["is_back"], "the guard", 30)
    assert time.monotonic() - began < 30
    row = bridge("moves", "--json").well().json[0]
    assert "runs in Python failed" in row["reason"]
    assert "the guard took OtherJob back to Ruby" in stage.worker.log
    assert "the guard took it back" in bridge("moves").well().out
    assert 'bridge_move_taken_back{worker="OtherJob"} 1.0' in get(stage.worker, "/metrics")[1]

    stage.wait_done()
    stage.make_due("retry")
    wait_until_equal(lambda: stage.redis.zcard("retry"), 0, "all retries to run")
    stage.wait_done()
    assert {jid: ran(stage, jid)[-1] for jid in jids} == dict.fromkeys(jids, "ruby")


# -- shadows


def differences(stage: Stage) -> dict[str, dict[str, object]]:
    """What `bridge moves ShadowJob` lists, by jid."""
    return {each["jid"]: each for each in bridge_of(stage)("moves", "ShadowJob", "--json").well().json}


def shadow_each_run(stage: Stage, name: str) -> None:
    change(stage, name, "--shadow", "100", heeded=f"{name} moves: 0 %")


def shadows_of(stage: Stage) -> int:
    return int(bridge_of(stage)("moves", "--json").well().json[0]["shadow_runs"])


def test_a_shadow_finds_a_bug_in_python_and_names_its_jid(stage: Stage, bridge: Bridge) -> None:
    """Given jobs that run in Ruby, their dry runs in Python are compared, and touch nothing."""
    shadow_each_run(stage, "ShadowJob")
    cases = {
        "same": ("a", 1, 2.0, None, {"b": [True]}),
        "loses an argument": ("odd", "customer-0815"),
        "fails in both": ("fail", "raise"),
        "raises": ("raise", "customer-4711"),
        "exits": ("exit",),
        "asks for a retry": ("retry",),
        "fails in Ruby alone": ("fail",),
    }
    jids = {name: push(stage, "ShadowJob", new_jid(), *args) for name, args in cases.items()}
    wait_until_equal(lambda: shadows_of(stage), len(cases), "the dry runs")

    found = {name: differences(stage).get(jid) for name, jid in jids.items()}
    assert {name: None if each is None else each["what"] for name, each in found.items()} == {
        "same": None,
        "loses an argument": "return value",
        "fails in both": None,
        "raises": "outcome",
        "exits": "outcome",
        "asks for a retry": "outcome",
        "fails in Ruby alone": "outcome",
    }
    assert found["raises"]["python"] == "ValueError: cannot handle ***"
    assert found["loses an argument"]["ruby"] == '["***", "***"]'
    assert found["loses an argument"]["python"] == '["***"]'
    assert found["fails in Ruby alone"]["ruby"] == "ArgumentError: failed in Ruby"
    assert all(ran(stage, jid) == ["ruby"] for jid in jids.values())
    stage.wait_counters(7, 2)
    assert not stage.redis.keys("bridge:result*")
    assert stage.redis.zcard("retry") == 2
    assert f"the shadow of jid={jids['raises']} class=ShadowJob has another outcome" in stage.worker.log
    assert bridge("moves", "ShadowJob").well().out.count("outcome") == 4


def test_a_shadow_ends_with_its_run_whatever_the_task_does(stage: Stage, bridge: Bridge) -> None:
    """A task that never came to its end kept all later shadows waiting, and pushes of a shadow were real."""
    shadow_each_run(stage, "ShadowJob")
    cases = {
        "crash": "ProcessEnded: status 7",
        "send": "PushRefused: a shadow pushes no job: push only where self.is_shadow is false",
        "batch": "PushRefused: a shadow pushes no job: push only where self.is_shadow is false",
        "chord": "PushRefused: a shadow pushes no job: push only where self.is_shadow is false",
        "told": None,
        "set": "a value that JSON cannot hold: TypeError: Object of type set is not JSON serializable",
        "hang": "DeadlineExceeded: ended after 10 s",
    }
    jids = {name: push(stage, "ShadowJob", new_jid(), name) for name in cases}
    wait_until_equal(lambda: shadows_of(stage), len(cases), "the dry runs", 60)
    last = push(stage, "ShadowJob", new_jid(), "odd")
    wait_for(lambda: last in differences(stage), "a shadow after them", 60)

    found = differences(stage)
    assert {name: found.get(jid, {}).get("python") for name, jid in jids.items()} == cases
    assert all(ran(stage, jid) == ["ruby"] for jid in jids.values())
    assert stage.queued == {}
    assert not stage.redis.keys("bridge:result*")
    assert not stage.redis.keys("bridge:batch*")
    assert stage.redis.zcard("schedule") == stage.redis.zcard("retry") == 0
    stage.wait_counters(8, 0)


def test_the_shadow_of_a_coroutine_is_awaited(stage: Stage, bridge: Bridge) -> None:
    shadow_each_run(stage, "CoroutineJob")
    push(stage, "CoroutineJob", new_jid(), "a")
    wait_until_equal(lambda: shadows_of(stage), 1, "the dry run")
    assert bridge("moves", "CoroutineJob").well().out.startswith("no shadow run of CoroutineJob has found")


def test_a_job_with_a_shadow_leaves_nothing_of_its_own(stage: Stage, bridge: Bridge) -> None:
    """It was run as a tracked job: its progress stayed, and each odd value was an error."""
    assert stage.sidecar is not None
    shadow_each_run(stage, "ObjectJob")
    jids = [push(stage, "ObjectJob", new_jid(), *args) for args in ((), ("large",))]
    wait_until_equal(lambda: shadows_of(stage), 2, "the dry runs")
    assert bridge("moves", "ObjectJob").well().out.startswith("no shadow run of ObjectJob has found")
    assert not stage.redis.keys("bridge:result*")
    assert [ran(stage, jid) for jid in jids] == [["ruby"]] * 2
    assert "its result is not stored" not in stage.sidecar.process.log
    assert "its result is not stored" not in stage.worker.log


def children_of(pid: int) -> set[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(word) for each in found for word in each.read_text().split()}


def test_the_process_of_the_shadows_is_there_while_a_class_has_one(stage: Stage, bridge: Bridge) -> None:
    """It has the lowest priority, and leaves with the last shadow."""
    assert stage.worker is not None
    worker = stage.worker
    wait_until_equal(lambda: len(children_of(worker.pid)), 1, "the keeper alone")
    before = children_of(worker.pid)
    shadow_each_run(stage, "ShadowJob")
    push(stage, "ShadowJob", new_jid(), "a")
    wait_until_equal(lambda: shadows_of(stage), 1, "the dry run")
    (pid,) = children_of(worker.pid) - before
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    bridge("move", "ShadowJob", "--shadow", "0").well()
    wait_until_equal(lambda: children_of(worker.pid), before, "the end of the process")


def test_a_shadow_delays_no_job(stage: Stage, bridge: Bridge) -> None:
    shadow_each_run(stage, "ShadowJob")
    began = time.monotonic()
    jids = [push(stage, "ShadowJob", new_jid(), "slow") for _ in range(150)]
    stage.wait_done()
    assert time.monotonic() - began < 3.0
    assert {jid: ran(stage, jid) for jid in jids} == {jid: ["ruby"] for jid in jids}
    wait_for(lambda: bridge("moves", "--json").well().json[0]["shadow_left_out"] > 0, "some left out")


# -- the plan


def test_a_plan_names_what_is_in_the_way_and_writes_a_skeleton(stage: Stage, bridge: Bridge) -> None:
    for args in ([1, "a"], [2, None, {"dry": True}]):
        stage.push_job({"class": "Billing::InvoiceJob", "args": args, "queue": "invoices"}, "invoices")

    plan = bridge("move", "Billing::InvoiceJob", "--plan", "--json").well().json

    assert (plan["kind"], plan["jobs_read"]) == ("job", 2)
    subjects = {each["subject"]: each["seen"] for each in plan["obstacles"]}
    assert "Tenanted" in subjects["modules"]
    assert subjects["options"] == "a gem reads these options, in middleware: lock"
    assert {"sidekiq_retry_in", "arguments"} <= subjects.keys()
    assert subjects["queue invoices"] == "no process reads it"
    assert (
        "def invoice_job(self, customer_id: int, class_name: str | None = None, options: " in plan["skeleton"]
    )
    assert "'queue': 'invoices', 'retry': 3" in plan["skeleton"]
    compile(plan["skeleton"], "skeleton.py", "exec")
    printed = bridge("move", "Billing::InvoiceJob", "--plan").well().out
    assert "sidekiq_retry_in: Python does not ask it" in printed


def test_a_plan_without_a_sidecar_reads_the_payloads_alone(stage: Stage) -> None:
    stage.push_job({"class": "Billing::InvoiceJob", "args": [1], "queue": "invoices"}, "invoices")
    away = Bridge(bridge_environment(stage.redis_url, f"unix://{stage.directory}/gone.sock"))
    plan = away("move", "Billing::InvoiceJob", "--plan", "--json").well().json
    assert plan["kind"] == "unasked"
    assert "arg1: int" in plan["skeleton"]


def test_a_plan_knows_a_class_that_the_app_does_not_have(bridge: Bridge) -> None:
    plan = bridge("move", "NoSuchJob", "--plan", "--json").well().json
    assert plan["kind"] == "unknown"
    assert plan["obstacles"][0]["seen"] == "the app has no job class NoSuchJob"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("EchoJob", "--percent", "101"), "--percent 101: write a number from 0 to 100."),
        (("EchoJob", "--percent", "-1"), "--percent -1: write a number from 0 to 100."),
        (("EchoJob", "--percent", "many"), "--percent many: write a number from 0 to 100."),
        (("EchoJob", "--percent", "nan"), "--percent nan: write a number from 0 to 100."),
        (("EchoJob", "--percent", "inf"), "--percent inf: write a number from 0 to 100."),
        (("EchoJob", "--percent", ""), "--percent : write a number from 0 to 100."),
        (("EchoJob", "--shadow", "100.5"), "--shadow 100.5: write a number from 0 to 100."),
        (
            ("EchoJob", "--percent", "5", "--back"),
            "write one of --percent, --back, --shadow, --finish and --plan",
        ),
        (("EchoJob",), "write what to do: --percent 5"),
        (("EchoJbo", "--percent", "5"), "did you mean EchoJob?"),
        (("SleepJob", "--shadow", "5"), "does not declare shadow_safe=True"),
    ],
)
def test_a_mistake_is_one_sentence(bridge: Bridge, words: tuple[str, ...], sentence: str) -> None:
    answer = bridge("move", *words)
    assert answer.code == 2
    assert sentence in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_a_percentage_may_have_its_sign_and_a_class_its_colons(stage: Stage, bridge: Bridge) -> None:
    change(stage, "::EchoJob", "--percent", "0.5%", heeded="EchoJob moves: 0.5 %")
    assert bridge("moves", "--json").well().json[0]["percent"] == 0.5


def test_a_class_without_a_native_task_is_refused(stage: Stage, bridge: Bridge) -> None:
    stage.push_job({"class": "HoardJob", "args": []}, queue="unserved")
    answer = bridge("move", "HoardJob", "--percent", "5")
    assert answer.code == 2
    assert "no running worker has a native task for HoardJob" in answer.err
    assert holds_for(lambda: not stage.redis.exists("bridge:moves"), 0.1, "no move") is None
