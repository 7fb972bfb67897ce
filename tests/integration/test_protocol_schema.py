"""What a real sidecar replies is what docs/protocol.schema.json says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bridge.sidecar.address import Address
from bridge.sidecar.http import HttpConnection, Reply, request_bytes
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage

SCHEMA = json.loads((ROOT / "docs/protocol.schema.json").read_text(encoding="utf-8"))
PROTOCOL = ("X-Bridge-Protocol", "2")

pytestmark = pytest.mark.skipif(shutil.which("ruby") is None, reason="needs Ruby")


class Sidecar:
    """Asks one sidecar, on a Unix socket without a secret, and keeps its boot id."""

    def __init__(self, url: str) -> None:
        self._address = Address.parse(url)
        self._tokens = iter(range(1, 1000))
        self.boot = json.loads(self.ask("GET", "/health", [PROTOCOL]).body)["boot"]

    def ask(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes = b"") -> Reply:
        connection = HttpConnection(self._address, 2.0, None)
        try:
            return connection.exchange(request_bytes(method, path, "sidecar", headers, body), 10.0)
        finally:
            connection.close()

    def execute(self, payload: bytes, claimed_at_ms: int = 1, **changed: str) -> Reply:
        """``changed`` are headers that are to differ: ``boot``, ``wait_ms``, ..."""
        headers = {
            "protocol": "2",
            "boot": self.boot,
            "delivery": f"worker:1:abc/{next(self._tokens)}",
            "claimed_at": str(claimed_at_ms),
            "queue": "default",
            **changed,
        }
        lines = [(f"X-Bridge-{name.replace('_', '-').title()}", value) for name, value in headers.items()]
        return self.ask("POST", "/jobs/execute", lines, payload)

    def about(self, method: str, path: str, body: bytes = b"") -> Reply:
        return self.ask(method, path, [PROTOCOL, ("X-Bridge-Boot", self.boot)], body)


@pytest.fixture(scope="module")
def sidecar(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Sidecar]:
    stage = Stage(redis_server, ruby_root, database=2)
    try:
        yield Sidecar(stage.start_sidecar(threads=2, arguments=("--max-body", "2000")).url)
    finally:
        stage.stop()


def check(reply: Reply, status: int, kind: str) -> dict[str, Any]:
    """The reply's body, valid as this part of the schema and as a reply at all."""
    found: dict[str, Any] = json.loads(reply.body)
    assert reply.status == status, found
    Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{kind}"}]}).validate(found)
    return found


def job(**fields: Any) -> bytes:
    return json.dumps({"class": "EchoJob", "args": [], "queue": "default", "retry": True, **fields}).encode()


def test_health_and_probes(sidecar: Sidecar) -> None:
    check(sidecar.ask("GET", "/health", [PROTOCOL]), 200, "health")
    check(sidecar.ask("GET", "/health/live", []), 200, "state")
    check(sidecar.ask("GET", "/health/ready", []), 200, "state")


def test_a_job_that_is_done(sidecar: Sidecar) -> None:
    assert check(sidecar.execute(job(jid="done1")), 200, "outcome")["status"] == "done"


@pytest.mark.parametrize(("retry", "place"), [(True, "retry"), (0, "dead"), (False, "none")])
def test_a_job_that_failed(sidecar: Sidecar, retry: Any, place: str) -> None:
    outcome = check(
        sidecar.execute(job(**{"class": "FailJob"}, jid=f"f{retry}", retry=retry)), 200, "outcome"
    )

    assert outcome["next"]["place"] == place


def test_a_job_whose_class_is_unknown_is_a_failure(sidecar: Sidecar) -> None:
    assert (
        check(sidecar.execute(job(**{"class": "NoSuchJob"}, jid="u1")), 200, "outcome")["status"] == "failed"
    )


def test_a_running_job_is_asked_for_and_interrupted(sidecar: Sidecar) -> None:
    delivery = "worker:1:old/2001"
    payload = job(**{"class": "SleepJob"}, jid="s1", args=[30])

    check(sidecar.execute(payload, delivery=delivery, wait_ms="50"), 202, "running")
    assert check(sidecar.execute(payload, claimed_at_ms=2), 409, "error")["code"] == "running"
    check(sidecar.about("POST", f"/jobs/{delivery}/interrupt"), 202, "accepted")
    outcome = check(sidecar.about("GET", f"/jobs/{delivery}?wait_ms=5000"), 200, "outcome")
    assert outcome["status"] == "shutdown"


def test_a_running_job_is_cancelled(sidecar: Sidecar) -> None:
    delivery = "worker:1:old/2002"
    sidecar.execute(job(**{"class": "SleepJob"}, jid="s2", args=[30]), delivery=delivery, wait_ms="200")

    assert check(sidecar.about("POST", f"/jobs/{delivery}/cancel", b"{}"), 400, "error")["code"] == "protocol"
    body = b'{"reason": "revoked", "message": "enough"}'
    check(sidecar.about("POST", f"/jobs/{delivery}/cancel", body), 202, "accepted")
    outcome = check(sidecar.about("GET", f"/jobs/{delivery}?wait_ms=5000"), 200, "outcome")
    assert outcome["next"] == {"place": "none"}


def test_a_job_with_its_code_in_python(sidecar: Sidecar) -> None:
    delivery = "worker:1:old/2010"
    asked = sidecar.execute(job(jid="py1"), delivery=delivery, body="python", lease_ms="15000")

    assert check(asked, 200, "body")["turn"] == 1
    alive = json.dumps({"deliveries": [delivery]}).encode()
    check(sidecar.about("POST", "/jobs/alive", alive), 202, "state")
    assert check(sidecar.about("POST", f"/jobs/{delivery}/body", b"{}"), 400, "error")["code"] == "protocol"
    report = json.dumps({"turn": 1, "status": "failed", "class": "ValueError", "message": "no"}).encode()
    outcome = check(sidecar.about("POST", f"/jobs/{delivery}/body", report), 200, "outcome")
    assert outcome["error"] == {"class": "ValueError", "message": "no"}


def test_an_older_delivery_is_superseded(sidecar: Sidecar) -> None:
    sidecar.execute(job(jid="o1"), claimed_at_ms=10, delivery="worker:1:old/2003")
    sidecar.execute(job(jid="o1"), claimed_at_ms=11)

    found = check(sidecar.about("GET", "/jobs/worker:1:old/2003"), 409, "error")
    assert found["code"] == "superseded"


@pytest.mark.parametrize(
    ("payload", "headers", "status", "code"),
    [
        (b"{", {}, 400, "malformed"),
        (b"[]", {}, 400, "malformed"),
        (job(jid="p1"), {"protocol": "1"}, 400, "protocol"),
        (job(jid="p2"), {"delivery": "no delivery"}, 400, "protocol"),
        (job(jid="p3", args=["x" * 2000]), {}, 413, "too_large"),
        (job(jid="p4"), {"boot": "0123456789abcdef"}, 421, "misdirected"),
        (job(**{"class": "String"}, jid="p5"), {}, 422, "refused"),
    ],
)
def test_what_is_refused(
    sidecar: Sidecar, payload: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    assert check(sidecar.execute(payload, **headers), status, "error")["code"] == code


def test_due_jobs_before_their_promotion(sidecar: Sidecar) -> None:
    jobs = [job(jid="due1"), b"{"]
    body = b"".join(b"%d\n%s" % (len(payload), payload) for payload in jobs)

    passed, failed = check(sidecar.about("POST", "/jobs/promote", body), 200, "promoted")["jobs"]

    assert passed["removed"] == []
    assert "error" in failed
    assert check(sidecar.about("POST", "/jobs/promote", b"nonsense"), 400, "error")["code"] == "protocol"


def test_a_push_through_the_app(sidecar: Sidecar) -> None:
    body = json.dumps({"id": "p1", "job": job(jid="pushed1").decode(), "implied": ["retry"]}).encode()
    assert check(sidecar.about("POST", "/jobs/push", body), 200, "pushed")["jid"] == "pushed1"
    wrong = json.dumps({"id": "p2", "job": job(**{"class": "String"}).decode(), "implied": []}).encode()
    assert "error" in check(sidecar.about("POST", "/jobs/push", wrong), 200, "pushed")
    assert check(sidecar.about("POST", "/jobs/push", b"{}"), 400, "error")["code"] == "protocol"


@pytest.mark.parametrize(("name", "kind"), [("EchoJob", "job"), ("NoSuchJob", "unknown")])
def test_a_class_is_described(sidecar: Sidecar, name: str, kind: str) -> None:
    body = json.dumps({"class": name}).encode()
    assert check(sidecar.about("POST", "/classes/describe", body), 200, "described")["kind"] == kind
    assert check(sidecar.about("POST", "/classes/describe", b"{}"), 400, "error")["code"] == "protocol"


def test_what_is_not_there(sidecar: Sidecar) -> None:
    assert check(sidecar.about("GET", "/jobs/worker:1:abc/9"), 404, "error")["code"] == "unknown"
    assert check(sidecar.ask("GET", "/nothing", []), 404, "error")["code"] == "not_found"


def test_a_stream_without_its_headers(sidecar: Sidecar) -> None:
    assert check(sidecar.about("POST", "/jobs/stream"), 400, "error")["code"] == "protocol"


def test_all_slots_busy_then_draining(sidecar: Sidecar) -> None:
    deliveries = ["worker:1:old/2004", "worker:1:abc/2005"]
    for delivery in deliveries:
        payload = job(**{"class": "SleepJob"}, jid=delivery, args=[30])
        check(sidecar.execute(payload, delivery=delivery, wait_ms="50"), 202, "running")

    assert check(sidecar.execute(job(jid="n1")), 503, "error")["code"] == "no_slot"
    check(sidecar.ask("POST", "/drain", [PROTOCOL]), 421, "error")
    check(sidecar.about("POST", "/drain"), 202, "state")
    assert check(sidecar.execute(job(jid="n2")), 503, "error")["code"] == "draining"
    assert check(sidecar.ask("GET", "/health/ready", []), 503, "state")["status"] == "draining"
    assert check(sidecar.ask("GET", "/health", [PROTOCOL]), 200, "health")["status"] == "draining"
    for delivery in deliveries:
        sidecar.about("POST", f"/jobs/{delivery}/interrupt")
