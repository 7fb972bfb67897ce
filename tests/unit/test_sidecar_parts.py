from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import errors
from bridge.sidecar.address import Address
from bridge.sidecar.breaker import Breaker, State
from bridge.sidecar.cron_notice import CronNotice
from bridge.sidecar.gate import SidecarGate
from bridge.sidecar.health import Health
from bridge.sidecar.http import request_bytes
from bridge.sidecar.result import JobResult, Next, Status, done_ms
from bridge.sidecar.signature import Signer, signed_text
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, DeadLimits, Discard, Done, Retry
from bridge.sidekiq.payload.job import SidekiqJob
from tests.support.waiting import wait_for

DELIVERY = Delivery("h:1:n", 7, "default", b'{"class":"X","jid":"a","args":[1.0]}', 1)
ABOUT = {"jid": "a", "delivery": DELIVERY.name, "duration_ms": 5}
JOB = SidekiqJob.parse(b'{"class":"X","jid":"a","args":[1.0],"queue":"q","failed_at":1.5}')

garbage = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["retry", "failed"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["status", "error", "next", "class", "message", "place", "fields", "delay", "payload"]
            )
            | st.text(max_size=3),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


# -- results


@given(st.binary() | garbage.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_an_unknown_outcome_and_no_other_error(body: bytes) -> None:
    try:
        result = JobResult.parse(body, DELIVERY)
    except errors.OutcomeUnknown:
        return
    assert isinstance(result, JobResult)


@given(
    st.sampled_from(["done", "failed", "interrupted", "shutdown"]),
    garbage,
    garbage,
    garbage,
    garbage,
    st.sampled_from(["retry", "dead", "none"]) | garbage,
)
def test_garbage_inside_a_reply_is_an_unknown_outcome_too(
    status: str, duration: Any, error: Any, fields: Any, delay: Any, place: Any
) -> None:
    following = {"place": place, "fields": fields, "delay": delay, "dead_limits": {"max_jobs": delay}}
    reply = {
        **ABOUT,
        "status": status,
        "duration_ms": duration,
        "error": error,
        "next": following,
        "payload": fields,
    }
    test_garbage_is_an_unknown_outcome_and_no_other_error.hypothesis.inner_test(json.dumps(reply).encode())


@pytest.mark.parametrize("delay", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_a_delay_that_is_no_number_is_an_unknown_outcome(delay: str) -> None:
    """Redis refuses such a score; and a huge integer raised OverflowError, which cost the job an attempt."""
    following = '{"place":"retry","fields":{},"delay_source":"default","delay":%s}' % delay  # noqa: UP031 - braces
    body = '{"status":"failed","error":{"class":"E","message":"m"},"next":%s,' % following  # noqa: UP031
    body += json.dumps(ABOUT)[1:]
    with pytest.raises(errors.OutcomeUnknown, match=r"too large|not JSON|delay"):
        JobResult.parse(body.encode(), DELIVERY)


def test_a_failure_says_what_ruby_decided() -> None:
    body = {
        **ABOUT,
        "status": "failed",
        "error": {"class": "E", "message": "m"},
        "next": {
            "place": "dead",
            "fields": {"retry_count": 0},
            "dead_limits": {"max_jobs": 5, "timeout_seconds": 60},
        },
    }
    result = JobResult.parse(json.dumps(body).encode(), DELIVERY)
    assert (result.status, result.error_class, result.error_message) == (Status.FAILED, "E", "m")
    assert result.next is not None
    decision = result.next.decision(JOB, 100.0)
    payload = b'{"class":"X","jid":"a","args":[1.0],"queue":"q","failed_at":1.5,"retry_count":0}'
    assert decision == Bury(payload, DeadLimits(5, 60))


def test_celerys_backoff_replaces_the_curve_and_never_the_jobs_own_delay() -> None:
    curve = Next("retry", {}, delay_seconds=20.0)
    own = Next("retry", {}, delay_seconds=20.0, custom_delay=True)
    assert curve.decision(JOB, 100.0) == Retry(120.0, JOB.raw)
    assert curve.decision(JOB, 100.0, 3.0) == Retry(103.0, JOB.raw)
    assert own.decision(JOB, 100.0, 3.0) == Retry(120.0, JOB.raw)
    assert Next("none", {}).decision(JOB, 100.0) == Discard()


# -- addresses


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host:9292", "http://host:9292"),
        ("http://host", "http://host:9292"),
        ("tcp://10.0.0.1:1", "http://10.0.0.1:1"),
        ("ssl://host:5", "https://host:5"),
        ("unix:///run/s.sock", "unix:///run/s.sock"),
    ],
)
def test_addresses_are_read_in_every_form(url: str, shown: str) -> None:
    assert str(Address.parse(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:9292",
        "ftp://host",
        "unix://",
        "http://",
        "http://host:99999",
        "http://host:x",
        "http://[::1",
    ],
)
def test_what_is_no_address_is_a_configuration_error(url: str) -> None:
    """A port out of range or a bracket left open raised a bare ValueError at the first job."""
    with pytest.raises(errors.ConfigurationError, match="sidecar's address"):
        Address.parse(url)


def test_a_puma_workers_socket_lies_in_the_configured_folder() -> None:
    """Where containers mount the shared volume at different places every job was given back for ever."""
    configured = Address.parse("unix:///run/bridge/sidecar.sock")
    assert str(configured.peer("unix:///srv/sockets/sidecar.sock.1")) == "unix:///run/bridge/sidecar.sock.1"


def test_each_puma_worker_is_reached_at_the_configured_port() -> None:
    """A firewall opens one port, and a container may publish it under another number."""
    for configured, listed in (("http://a:9292", "tcp://127.0.0.1:40001"), ("https://a:443", "ssl://b:9292")):
        assert Address.parse(configured).peer(listed) == Address.parse(configured)


@pytest.mark.parametrize(
    ("configured", "named"),
    [
        ("http://sidecar:9292", "unix:///run/docker.sock"),
        ("https://sidecar:9292", "tcp://sidecar:9293"),
        ("http://sidecar:9292", "ssl://sidecar:9293"),
        ("unix:///run/bridge/s.sock", "tcp://169.254.169.254:80"),
        ("unix:///run/bridge/s.sock", "unix:///run/.."),
        ("unix:///run/bridge/s.sock", "unix:///run/a%0ab"),
        ("unix:///run/bridge/s.sock", "unix:///run/a b"),
    ],
)
def test_a_sidecar_does_not_choose_where_the_worker_connects(configured: str, named: str) -> None:
    """Who answered /health led the worker to any socket and port of its machine."""
    with pytest.raises(errors.ConfigurationError, match="a Puma worker of"):
        Address.parse(configured).peer(named)


# -- signatures


def test_the_signed_text_is_line_by_line_what_the_protocol_says() -> None:
    headers = [("X-Bridge-Queue", "q"), ("X-Bridge-Boot", "b")]
    text = signed_text("POST", "/jobs/execute", headers)
    assert text == "bridge-v2\nPOST\n/jobs/execute\nx-bridge-boot:b\nx-bridge-queue:q"


def test_each_request_is_signed_once_with_a_nonce_of_its_own() -> None:
    signer = Signer(b"secret")
    first, second = (dict(signer.sign("GET", "/health", [], b"body")) for _ in range(2))
    assert first["X-Bridge-Nonce"] != second["X-Bridge-Nonce"]
    assert first["X-Bridge-Content-Sha256"] == hashlib.sha256(b"body").hexdigest()
    signature = first.pop("X-Bridge-Signature")
    text = signed_text("GET", "/health", first.items())
    assert signature == "v2=" + hmac.new(b"secret", text.encode(), hashlib.sha256).hexdigest()


def test_without_a_secret_nothing_is_added() -> None:
    assert Signer(None).sign("GET", "/", [("a", "b")], b"") == [("a", "b")]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/health", [("X-Bridge-Boot", "b\r\nX-Bridge-Recovered: 1")]),
        ("/health", [("X-Bridge-Boot", "b\n\nGET /drain HTTP/1.1")]),
        ("/health", [("X-Bridge-Boot", "b\x00")]),
        ("/health", [("X-Bridge-Boot", "\ud800")]),
        ("/health", [("X-Bridge-Bo\r\not", "b")]),
        ("/health HTTP/1.1\r\nX: y", []),
        ("/he alth", []),
    ],
)
def test_no_request_holds_a_line_of_anothers_choice(path: str, headers: list[tuple[str, str]]) -> None:
    """A boot id with line breaks sent a whole second request, to a socket of the liar's choice."""
    with pytest.raises(errors.SidecarUnavailable, match="no request was sent"):
        request_bytes("GET", path, "sidecar", headers, b"")


# -- the breaker


class FakeFleet:
    """Answers with what it is given, in turn."""

    def __init__(self) -> None:
        self.answer: Any = None

    def refresh(self) -> list[Health]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return [Health(self.answer, "8.1.0", 25, 10, 10, (), (), ())]


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet()


@pytest.fixture
def breaker(fleet: FakeFleet) -> Breaker:
    made: Any = Breaker(fleet)  # type: ignore[arg-type]
    changes: list[State] = []
    made._on_change = lambda: changes.append(made.state)
    made.changes = changes
    return made  # type: ignore[no-any-return]


def states(breaker: Breaker, fleet: FakeFleet, *answers: Any) -> list[State]:
    found = []
    for answer in answers:
        fleet.answer = answer
        breaker.round()
        found.append(breaker.state)
    return found


def test_a_good_probe_half_opens_and_a_second_one_closes(breaker: Breaker, fleet: FakeFleet) -> None:
    assert breaker.is_open
    assert states(breaker, fleet, "ready", "ready") == [State.HALF_OPEN, State.CLOSED]


def test_a_sidecar_that_fails_the_job_that_went_first_gets_the_next_one_after_a_pause(
    breaker: Breaker, fleet: FakeFleet
) -> None:
    """Its probe was well, so it got ten jobs a second, and each of them was buried within a second."""
    states(breaker, fleet, "ready")
    breaker.trip("the reply was cut")
    assert states(breaker, fleet, "ready", "ready") == [State.OPEN, State.OPEN]
    wait_for(lambda: states(breaker, fleet, "ready") == [State.HALF_OPEN], "the next trial", 5)


def test_a_job_that_got_through_closes_it(breaker: Breaker, fleet: FakeFleet) -> None:
    states(breaker, fleet, "ready")
    breaker.passed()
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(
    "trouble", [errors.SidecarUnavailable("gone"), "draining", errors.SidecarRejected("no")]
)
def test_every_trouble_opens_it(breaker: Breaker, fleet: FakeFleet, trouble: Any) -> None:
    assert states(breaker, fleet, "ready", "ready", trouble)[-1] is State.OPEN


def test_a_refusal_is_remembered_until_a_good_probe(breaker: Breaker, fleet: FakeFleet) -> None:
    states(breaker, fleet, errors.SidecarRejected("wrong secret"))
    assert breaker.rejected == "wrong secret"
    states(breaker, fleet, "ready")
    assert breaker.rejected is None


def test_probes_of_a_sidecar_that_is_away_come_soon_and_then_every_second(
    fleet: FakeFleet,
) -> None:
    # While a sidecar starts, the worker asked once a second, and began its first job half a second late.
    now = 1000.0
    breaker = Breaker(fleet, clock=lambda: now)  # type: ignore[arg-type]
    fleet.answer = errors.SidecarUnavailable("gone")
    early = [breaker.round() for _ in range(8)]
    now += 31.0
    late = [breaker.round() for _ in range(8)]
    assert early[0] <= 0.2
    assert early[-1] == 0.2
    assert late == sorted(late)
    assert late[-1] == 1.0


def test_the_answers_of_the_start_spare_the_first_probe_while_they_are_fresh(fleet: FakeFleet) -> None:
    """A start asked each sidecar twice within a moment: for its gems, and for the breaker."""
    now = 1000.0
    breaker = Breaker(fleet, clock=lambda: now)  # type: ignore[arg-type]
    # Given answers of this moment, and a sidecar that fails the next probe
    fleet.answer = "ready"
    breaker.ask_early()
    fleet.answer = errors.SidecarUnavailable("gone")
    # When the first round comes, then it takes them, and the second one probes
    breaker.round()
    assert breaker.state is State.HALF_OPEN
    breaker.round()
    assert breaker.is_open
    # And the start that waited for Redis meanwhile probes at once
    fleet.answer = "ready"
    breaker.ask_early()
    fleet.answer = errors.SidecarUnavailable("gone")
    now += 5.0
    breaker.round()
    assert breaker.is_open


@pytest.mark.parametrize(
    "trouble", [errors.SidecarUnavailable("no answer in 2 s"), errors.SidecarRejected("wrong secret")]
)
def test_a_start_waits_once_for_a_sidecar_that_does_not_answer(
    fleet: FakeFleet, trouble: errors.SidecarError
) -> None:
    """A port that took connections and never answered cost a start 2 s at each of two probes."""
    breaker = Breaker(fleet)  # type: ignore[arg-type]
    # Given a start that has asked a sidecar in vain, and one that would answer now
    fleet.answer = trouble
    with pytest.raises(type(trouble)):
        breaker.ask_early()
    fleet.answer = "ready"
    # When the first round comes, then it does not ask
    breaker.round()
    assert breaker.is_open
    assert breaker.reason == str(trouble)
    assert (breaker.rejected is not None) is isinstance(trouble, errors.SidecarRejected)
    # And the second one does
    breaker.round()
    assert breaker.state is State.HALF_OPEN
    assert breaker.rejected is None


def test_an_outage_is_told_once_and_asks_for_a_probe(breaker: Breaker, fleet: FakeFleet) -> None:
    states(breaker, fleet, "ready", "ready")
    asked: list[bool] = []
    breaker._probe_soon = lambda: asked.append(True)
    for _ in range(5):
        breaker.trip("refused")
    assert asked == [True]


def test_the_gate_lets_native_jobs_pass_and_one_ruby_job_first(breaker: Breaker, fleet: FakeFleet) -> None:
    gate = SidecarGate(breaker, lambda job: job.job_class == "Native")
    native = SidekiqJob.parse(b'{"class":"Native"}')
    assert gate.limit() == 0
    assert gate.admits(native)
    assert not gate.admits(JOB)
    states(breaker, fleet, "ready")
    assert gate.limit() == 1
    assert gate.restricts
    gate.settled([(UnitOfWork(DELIVERY, JOB, started_at=1.0), Done())])
    assert gate.limit() is None
    gate.follow()
    assert not gate.restricts


DONE = b'{"status":"done","jid":"a","delivery":"h:1:n/7","duration_ms":0.125}'


def test_a_plain_reply_says_done() -> None:
    assert done_ms(DONE, DELIVERY) == 0.125
    assert JobResult.parse(DONE, DELIVERY) == JobResult(Status.DONE, 0.125)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        DONE[:-1],
        DONE + b"x",
        DONE + b"\n",
        DONE.replace(b"done", b"failed"),
        DONE.replace(b"0.125", b"0.1e999"),
        DONE.replace(b'"a"', b'"a","status":"failed"'),
        DONE.replace(b"0.125", b"9" * 400),
        DONE.replace(b"n/7", b"n/8"),
    ],
)
def test_what_is_not_exactly_a_plain_reply_is_looked_at_as_json(body: bytes) -> None:
    assert done_ms(body, DELIVERY) is None


# -- periodic jobs


def test_a_worker_says_once_what_becomes_of_periodic_jobs(caplog: pytest.LogCaptureFixture) -> None:
    notice = CronNotice()
    health = Health(
        "ready", "8.1.0", 25, 10, 10, (), ("sidekiq-cron", "sidekiq-ent"), (), cron_unserved=("sidekiq-ent",)
    )

    with caplog.at_level("INFO"):
        notice.say(health)
        notice.say(health)

    served, unserved = caplog.records
    assert (served.levelname, unserved.levelname) == ("INFO", "WARNING")
    assert "the sidecar runs the app's sidekiq-cron" in served.getMessage()
    assert "sidekiq-ent are NOT enqueued" in unserved.getMessage()
    assert "celery beat" in unserved.getMessage()
