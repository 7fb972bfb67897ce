"""Whatever a sidecar says is understood within its bounds, or it is an outage or an unknown outcome."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bridge import errors
from bridge.sidecar import schema, schema_types
from bridge.sidecar.address import Address
from bridge.sidecar.health import Health, HealthProbe
from bridge.sidecar.http import Reply
from bridge.sidecar.promotion import Promotion
from bridge.sidecar.protocol import error_of
from bridge.sidecar.result import JobResult, Status
from bridge.sidecar.signature import Signer
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome.decision import Bury, Discard, Retry
from bridge.sidekiq.payload.job import SidekiqJob
from tests.support.processes import ROOT

DOCUMENTED = json.loads((ROOT / "docs/protocol.schema.json").read_text(encoding="utf-8"))
JOB = SidekiqJob.parse(b'{"class":"X","args":[1.0],"jid":"a","queue":"default","z":{"args":[]}}')
DELIVERY = Delivery("h:1:n", 7, "default", JOB.raw, 1)
NOW = 1_700_000_000.0

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([10**400, -1e18, 1e308, 2**63, -1, 0, "\ud800", "\x00\r\n", "x" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
sound = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(-1e18, 1e18) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["queue", "error_message", "error_class", "failed_at", "retry_count", "own"])
fields = st.dictionaries(names, sound, max_size=5)
limits = st.fixed_dictionaries(
    {"max_jobs": st.integers(2, 10**12), "timeout_seconds": st.integers(60, 10**12)}
)
nexts = st.one_of(
    st.fixed_dictionaries(
        {
            "place": st.just("retry"),
            "delay": st.floats(0, schema_types.LONGEST_DELAY_SECONDS) | st.integers(0, 10**6),
            "delay_source": st.sampled_from(["default", "sidekiq_retry_in"]),
            "fields": fields,
        }
    ),
    st.fixed_dictionaries({"place": st.just("dead"), "fields": fields, "dead_limits": limits}),
    st.just({"place": "none"}),
)
about = {"jid": st.just("a"), "delivery": st.just(DELIVERY.name), "duration_ms": st.floats(0, 1e12)}
problems = st.fixed_dictionaries({"class": st.text(min_size=1), "message": st.text()})
outcomes = st.one_of(
    st.fixed_dictionaries({"status": st.just("done"), **about}),
    st.fixed_dictionaries({"status": st.just("failed"), **about, "error": problems, "next": nexts}),
    st.fixed_dictionaries({"status": st.just("interrupted"), **about, "payload": st.just(JOB.raw.decode())}),
    st.fixed_dictionaries({"status": st.just("shutdown"), **about}, optional={"asked": st.just(False)}),
)
boots = st.text("0123456789abcdef", min_size=16, max_size=16)
states = st.fixed_dictionaries(
    {
        "index": st.integers(0, 9),
        "boot": boots,
        "pid": st.integers(1, 99),
        "url": st.sampled_from(["unix:///run/s.sock.0", "unix:///x/s.sock"]),
        "slots": st.integers(1, 100),
        "busy": st.integers(0, 100),
        "rss_bytes": st.integers(0, 10**12),
    },
    optional={"draining": st.booleans()},
)
words = st.lists(st.sampled_from(["Own::Middleware", "sidekiq-cron"]), max_size=2)
healths = st.fixed_dictionaries(
    {
        "protocol": st.just(2),
        "status": st.sampled_from(["booting", "ready", "draining"]),
        "boot": boots,
        "version": st.just("0.1.0"),
        "ruby": st.just("3.1.2"),
        "rails": st.none() | st.just("7.1"),
        "sidekiq": st.sampled_from(["6.4.1", "8.1.0.beta1"]),
        "environment": st.just("test"),
        "max_retries": st.integers(0, 100),
        "dead": limits,
        "timestamps": st.just("seconds"),
        "metrics_family": st.just("7"),
        "client_middleware": words,
        "cron": words,
        "workers": st.lists(states, min_size=1, max_size=3),
    },
    optional={"now": st.floats(0, 1e10), "timeout_seconds": st.integers(0, 99), "cron_unserved": words},
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of every part of a JSON value, itself included."""
    found = [here]
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in children:
        found += paths(inner, (*here, key))
    return found


@st.composite
def spoiled(draw: Any, replies: Any) -> Any:
    """A good reply with one part replaced, taken away, or added."""
    reply = copy.deepcopy(draw(replies))
    path = draw(st.sampled_from(paths(reply)))
    if not path:
        return draw(anything)
    holder = reply
    for key in path[:-1]:
        holder = holder[key]
    if isinstance(holder, dict) and draw(st.booleans()):
        if draw(st.booleans()):
            del holder[path[-1]]
        else:
            holder[draw(st.sampled_from(["class", "args", "jid", "wrapped", "next", "x"]))] = draw(anything)
    else:
        holder[path[-1]] = draw(anything)
    return reply


def body(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def assert_bounded(result: JobResult) -> None:
    """What the worker does next with the outcome raises nothing and changes nothing that a run may not."""
    assert 0 <= result.duration_ms <= schema_types.LONGEST_RUN_MS
    assert math.isfinite(result.duration_ms)
    if result.status is Status.INTERRUPTED:
        again = SidekiqJob.parse(result.payload)
        assert (again.jid, again.job_class) == (JOB.jid, JOB.job_class)
    if result.status is not Status.FAILED:
        return
    assert result.next is not None
    match decision := result.next.decision(JOB, NOW):
        case Retry():
            assert NOW <= decision.at <= NOW + schema_types.LONGEST_DELAY_SECONDS
            assert_same_job(decision.payload)
        case Bury():
            assert decision.limits is not None
            assert decision.limits.max_jobs >= schema_types.FEWEST_DEAD_JOBS
            assert decision.limits.timeout_seconds >= schema_types.SHORTEST_DEAD_SECONDS
            assert_same_job(decision.payload)
        case _:
            assert decision == Discard()


def assert_same_job(payload: bytes) -> None:
    job = SidekiqJob.parse(payload)
    assert {name: job.fields[name] for name in ("class", "args", "jid")} == {
        "class": "X",
        "args": [1.0],
        "jid": "a",
    }
    assert "wrapped" not in job.fields


@given(outcomes)
def test_every_outcome_that_the_protocol_describes_is_understood(reply: Any) -> None:
    Draft202012Validator({**DOCUMENTED, "anyOf": [{"$ref": "#/$defs/outcome"}]}).validate(reply)
    result = JobResult.parse(body(reply), DELIVERY)
    assert result.status.value == reply["status"]
    assert_bounded(result)


@settings(max_examples=600, deadline=None)
@given(spoiled(outcomes))
def test_an_outcome_with_anything_wrong_is_within_bounds_or_unknown(reply: Any) -> None:
    try:
        result = JobResult.parse(body(reply), DELIVERY)
    except errors.OutcomeUnknown as error:
        said = str(error)
    else:
        said = ""
        assert_bounded(result)
    assert said.isprintable()


FAILED: dict[str, Any] = {
    "status": "failed", "jid": "a", "delivery": DELIVERY.name, "duration_ms": 1,
    "error": {"class": "E", "message": "m"},
    "next": {"place": "retry", "delay": 1, "delay_source": "default", "fields": {}},
}  # fmt: skip
DEAD = {"place": "dead", "fields": {}, "dead_limits": {"max_jobs": 10, "timeout_seconds": 100}}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "wrong",
    [
        {**DEAD, "dead_limits": {"max_jobs": 0, "timeout_seconds": 100}},
        {**DEAD, "dead_limits": {"max_jobs": 1, "timeout_seconds": 100}},
        {**DEAD, "dead_limits": {"max_jobs": -5, "timeout_seconds": 100}},
        {**DEAD, "dead_limits": {"max_jobs": 10, "timeout_seconds": 0}},
        {**DEAD, "dead_limits": {"max_jobs": "10", "timeout_seconds": 100}},
        {**DEAD, "dead_limits": {"max_jobs": True, "timeout_seconds": 100}},
        {**DEAD, "dead_limits": None},
        {**FAILED["next"], "delay": -1e18},
        {**FAILED["next"], "delay": -0.5},
        {**FAILED["next"], "delay": 1e17},
        {**FAILED["next"], "delay": 10**400},
        {**FAILED["next"], "delay": "5"},
        {**FAILED["next"], "delay": True},
        {**FAILED["next"], "fields": {"class": "Other"}},
        {**FAILED["next"], "fields": {"args": []}},
        {**FAILED["next"], "fields": {"jid": "b"}},
        {**FAILED["next"], "fields": {"wrapped": "Other"}},
        {**FAILED["next"], "fields": {"own": deep(101)}},
        {**FAILED["next"], "fields": []},
        {"place": "queue", "fields": {}},
    ],
)
def test_what_a_run_may_not_decide(wrong: Any) -> None:
    """Limits of 0 emptied the dead set, -1e18 ran a job 38 times in 33 s, a field made another job of it."""
    with pytest.raises(errors.OutcomeUnknown):
        JobResult.parse(body({**FAILED, "next": wrong}), DELIVERY)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 5000])
@pytest.mark.parametrize("name", ["duration_ms", "delay", "own"])
def test_a_number_that_is_not_finite_costs_no_attempt(number: str, name: str) -> None:
    """1e999 is JSON, and infinite to Python: it raised where the decision was written."""
    reply = copy.deepcopy(FAILED)
    holder = {"duration_ms": reply, "delay": reply["next"], "own": reply["next"]["fields"]}[name]
    holder[name] = "HERE"
    with pytest.raises(errors.OutcomeUnknown):
        JobResult.parse(body(reply).replace(b'"HERE"', number.encode()), DELIVERY)


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{",
        "[]",
        "null",
        '{"class":"Y","args":[],"jid":"a"}',
        '{"class":"X","args":[],"jid":"b"}',
        '{"class":"X","args":[]}',
        '{"class":"X","args":[],"jid":"a","wrapped":"Y"}',
        5,
        None,
    ],
)
def test_an_interrupted_job_goes_on_as_itself_or_not_at_all(payload: Any) -> None:
    """Text that was no JSON took the job's place in its queue."""
    reply = {**{k: v for k, v in FAILED.items() if k not in ("error", "next")}, "status": "interrupted"}
    with pytest.raises(errors.OutcomeUnknown):
        JobResult.parse(body({**reply, "payload": payload}), DELIVERY)


@pytest.mark.parametrize("change", [{"jid": "b"}, {"jid": None}, {"delivery": "h:1:n/8"}, {"delivery": 7}])
def test_an_outcome_of_another_job_is_not_this_ones(change: Any) -> None:
    with pytest.raises(errors.OutcomeUnknown):
        JobResult.parse(body({**FAILED, **change}), DELIVERY)


# -- /health


def ask(told: bytes) -> Health:
    probe = HealthProbe(Signer(None), 1.0)
    probe._get = lambda address: Reply(200, {}, told)  # type: ignore[method-assign]
    return probe.ask(Address.parse("unix:///run/s.sock"))


@given(healths)
def test_every_health_that_the_protocol_describes_is_understood(reply: Any) -> None:
    Draft202012Validator({**DOCUMENTED, "anyOf": [{"$ref": "#/$defs/health"}]}).validate(reply)
    health = ask(body(reply))
    assert [worker.boot for worker in health.workers] == [worker["boot"] for worker in reply["workers"]]


@settings(max_examples=600, deadline=None)
@given(spoiled(healths))
def test_a_health_with_anything_wrong_is_within_bounds_or_an_outage(reply: Any) -> None:
    try:
        health = ask(body(reply))
    except (errors.SidecarUnavailable, errors.SidecarRejected) as error:
        said = str(error)
    else:
        said = ""
        assert_health_bounded(health)
    assert said.isprintable()


def assert_health_bounded(health: Health) -> None:
    for worker in health.workers:
        assert len(worker.boot) == 16
        assert set(worker.boot) <= set("0123456789abcdef")
        assert worker.address.path.startswith("/run/")
        assert worker.slots >= 1
    assert health.dead_max_jobs >= schema_types.FEWEST_DEAD_JOBS
    texts = (health.status, health.sidekiq_version, health.version, *health.client_middleware, *health.cron)
    assert all(text.isprintable() for text in texts)


@pytest.mark.parametrize(
    "boot", ["\ud800", "b\r\nX: y", "0" * 15, "0" * 17, "0" * 16 + "\n", "G" * 16, "", 7, None]
)
def test_a_boot_id_is_16_hex_digits_or_there_is_no_sidecar(boot: Any) -> None:
    """A lone surrogate ended a worker that started, a line break began a request of the liar's choice."""
    told = {
        "protocol": 2, "status": "ready", "sidekiq": "7.3.2", "max_retries": 25,
        "dead": {"max_jobs": 10, "timeout_seconds": 100},
        "workers": [{"boot": "0" * 16, "url": "unix:///run/s.sock", "slots": 1, "busy": 0}],
    }  # fmt: skip
    assert ask(body(told)).ready
    told["workers"][0]["boot"] = boot  # type: ignore[index]
    with pytest.raises(errors.SidecarUnavailable):
        ask(json.dumps(told).encode())


# -- the other replies


@given(anything | spoiled(st.fixed_dictionaries({"code": st.just("refused"), "message": st.text()})))
def test_a_refusal_is_a_code_and_a_line(reply: Any) -> None:
    code, message = error_of(Reply(422, {}, body(reply)))
    assert code.isascii()
    assert message.isprintable()


promoted = st.fixed_dictionaries(
    {
        "jobs": st.lists(
            st.fixed_dictionaries({"fields": fields, "removed": st.lists(names, max_size=2)})
            | st.just({"halted": True})
            | st.fixed_dictionaries({"error": st.text()}),
            min_size=1,
            max_size=1,
        )
    }
)


@given(promoted)
def test_every_promotion_that_the_protocol_describes_is_understood(reply: Any) -> None:
    Draft202012Validator({**DOCUMENTED, "anyOf": [{"$ref": "#/$defs/promoted"}]}).validate(reply)
    found = schema.read(schema.PROMOTED, body(reply))
    assert len(found.jobs) == 1


@settings(max_examples=300, deadline=None)
@given(spoiled(promoted))
def test_a_promotion_with_anything_wrong_leaves_the_job_as_it_is(reply: Any) -> None:
    promotion = Promotion(lambda path, sent: body(reply))
    promotion.learn(("Own",))
    [passed] = promotion([JOB.raw])
    assert "jid" not in passed.fields
    assert not schema_types.NEVER_SET & set(passed.removed)
    JOB.with_fields(passed.fields)
