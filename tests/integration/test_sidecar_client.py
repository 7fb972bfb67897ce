"""The sidecar's client against a server that does what a real one cannot be made to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge import errors
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.result import Status
from tests.support.scripted_server import BOOTS, DELIVERY, DONE, ScriptedServer, client_of, reply


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    made = ScriptedServer()
    yield made
    made.close()


@pytest.fixture
def client(server: ScriptedServer) -> SidecarClient:
    return client_of(server)


def answering(server: ScriptedServer, client: SidecarClient, *answers: bytes) -> Callable[[], Any]:
    server.answers[:] = answers
    return lambda: client.execute(DELIVERY)


def test_a_job_is_sent_byte_for_byte_and_signed(server: ScriptedServer, client: SidecarClient) -> None:
    assert answering(server, client, reply(200, DONE))().status is Status.DONE
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == DELIVERY.payload
    for line in (
        b"X-Bridge-Delivery: host:1:abc/7",
        b"X-Bridge-Boot: b1b1b1b1b1b1b1b1",
        b"X-Bridge-Signature: v2=",
    ):
        assert line in head


@pytest.mark.parametrize(
    "fault",
    [
        ScriptedServer.CUT,
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_lost_reply_is_asked_for_again_under_the_same_delivery(
    server: ScriptedServer, client: SidecarClient, fault: bytes
) -> None:
    assert answering(server, client, fault, reply(200, DONE))().status is Status.DONE
    assert len(server.requests) == 2
    assert all(b"X-Bridge-Delivery: host:1:abc/7" in request for request in server.requests)


@pytest.mark.parametrize(
    "body", [{}, [], None, {"status": "done"}, {"status": "odd", "duration_ms": 1}, {"status": "failed"}]
)
def test_a_reply_that_makes_no_sense_is_an_unknown_outcome(
    server: ScriptedServer, client: SidecarClient, body: Any
) -> None:
    with pytest.raises(errors.OutcomeUnknown):
        answering(server, client, reply(200, body))()


def test_a_reply_that_never_comes_is_an_unknown_outcome_within_bounds(
    server: ScriptedServer, client: SidecarClient
) -> None:
    started = time.monotonic()
    with pytest.raises(errors.OutcomeUnknown):
        answering(server, client)()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (503, "draining", errors.SidecarUnavailable),
        (401, "signature", errors.SidecarRejected),
        (403, "timestamp", errors.OutcomeUnknown),
        (400, "protocol", errors.SidecarRejected),
        (400, "malformed", errors.JobRefused),
        (413, "too_large", errors.JobRefused),
        (422, "refused", errors.JobRefused),
        (409, "superseded", errors.JobSuperseded),
        (421, "boot", errors.SidecarUnavailable),
        (500, "oops", errors.OutcomeUnknown),
        (302, "moved", errors.OutcomeUnknown),
        (404, "unknown", errors.OutcomeUnknown),
    ],
)
def test_each_refusal_is_what_it_means_for_the_job(
    server: ScriptedServer, client: SidecarClient, status: int, code: str, error: type[Exception]
) -> None:
    answer = reply(status, {"code": code, "message": "m"}, "Location: http://127.0.0.1:1/\r\n")
    with pytest.raises(error):
        answering(server, client, answer)()
    assert len(server.requests) == 1


NO_SLOT = reply(503, {"code": "no_slot", "message": "m"})
DRAINING = reply(503, {"code": "draining", "message": "m"})


def test_a_lost_reply_of_a_job_that_never_began_is_no_unknown_outcome(
    server: ScriptedServer, client: SidecarClient
) -> None:
    """A 503 to the repeated delivery says that the Puma worker does not know it: it was counted as lost."""
    with pytest.raises(errors.SidecarUnavailable) as drains:
        answering(server, client, ScriptedServer.CUT, NO_SLOT, DRAINING)()
    assert not drains.value.may_run
    client.fleet.refresh()
    with pytest.raises(errors.SidecarUnavailable) as full:
        answering(server, client, ScriptedServer.CUT, *[NO_SLOT] * 200)()
    assert full.value.may_run
    assert full.value.retry_after_seconds


def test_a_lost_reply_of_a_job_that_began_is_an_unknown_outcome_whatever_follows(
    server: ScriptedServer, client: SidecarClient
) -> None:
    running = reply(202, {"status": "running"})
    with pytest.raises(errors.OutcomeUnknown):
        answering(server, client, running, *[ScriptedServer.CUT] * 2, *[DRAINING] * 200)()


def test_a_puma_worker_that_goes_down_gets_no_more_jobs_from_its_first_word_of_it(
    server: ScriptedServer, client: SidecarClient
) -> None:
    shutdown = {**DONE, "status": "shutdown"}
    result = answering(server, client, reply(200, shutdown))()
    assert (result.status, result.was_last) == (Status.SHUTDOWN, len(client.fleet.members) == 0)
    before = len(client.fleet.members)
    client.fleet.refresh()
    assert len(client.fleet.members) == before + 1
    answering(server, client, reply(200, {**shutdown, "asked": False}))()
    assert len(client.fleet.members) == before + 1


def test_a_full_sidecar_is_waited_for_and_then_given_up(
    server: ScriptedServer, client: SidecarClient
) -> None:
    full = reply(503, {"code": "no_slot", "message": "m"})
    assert answering(server, client, full, full, reply(200, DONE))().status is Status.DONE
    with pytest.raises(errors.SidecarUnavailable) as caught:
        answering(server, client, *[full] * 50)()
    assert caught.value.retry_after_seconds


def test_a_long_job_is_asked_for_on_fresh_requests(server: ScriptedServer, client: SidecarClient) -> None:
    running = reply(202, {"status": "running"})
    assert answering(server, client, running, running, reply(200, DONE))().status is Status.DONE
    assert [request.split(b" ")[0] for request in server.requests] == [b"POST", b"GET", b"GET"]


def test_a_long_job_that_is_forgotten_is_an_unknown_outcome(
    server: ScriptedServer, client: SidecarClient
) -> None:
    forgotten = reply(404, {"code": "unknown", "message": "m"})
    with pytest.raises(errors.OutcomeUnknown):
        answering(server, client, reply(202, {}), forgotten)()


def test_slots_are_free_again_whatever_happened(server: ScriptedServer, client: SidecarClient) -> None:
    for answer in (
        ScriptedServer.CUT,
        reply(500, {}),
        reply(200, []),
        reply(503, {"code": "x", "message": ""}),
    ):
        with pytest.raises(errors.SidecarError):
            answering(server, client, answer, answer)()
    assert answering(server, client, reply(200, DONE))().status is Status.DONE
    assert all(member.running == 0 for member in client.fleet.members)


@pytest.mark.parametrize(
    "health",
    [
        [],
        {"protocol": 2},
        {"protocol": 9},
        {"protocol": 2, "workers": [{"url": "x"}], "status": "ready"},
        "text",
        5,
    ],
)
def test_a_health_that_makes_no_sense_is_no_failure_of_the_job(
    server: ScriptedServer, client: SidecarClient, health: Any
) -> None:
    server.health = health
    with pytest.raises((errors.SidecarUnavailable, errors.SidecarRejected)):
        client.execute(DELIVERY)


def test_a_puma_worker_with_an_address_that_is_none_is_no_failure_of_the_job(
    server: ScriptedServer, client: SidecarClient
) -> None:
    """It raised a configuration error out of the job, which spent an attempt."""
    healthy = server._healthy()
    healthy["workers"][0]["url"] = "http://host:99999"
    server.health = healthy
    with pytest.raises(errors.SidecarUnavailable):
        client.execute(DELIVERY)


RECOVERED = DELIVERY._replace(recovered=1)


def test_a_job_out_of_dead_hands_is_looked_for_before_it_is_started(
    server: ScriptedServer, client: SidecarClient
) -> None:
    server.answers[:] = [reply(404, {"code": "unknown", "message": ""}), reply(200, DONE)]

    assert client.execute(RECOVERED).status is Status.DONE

    looked, started = server.requests
    assert b"X-Bridge-If-Known: 1" in looked
    assert b"X-Bridge-If-Known" not in started


def test_a_job_out_of_dead_hands_that_is_known_is_joined(
    server: ScriptedServer, client: SidecarClient
) -> None:
    server.answers[:] = [reply(202, {"status": "running"}), reply(200, DONE)]

    assert client.execute(RECOVERED).status is Status.DONE

    assert [request.split(b" ")[0] for request in server.requests] == [b"POST", b"GET"]


def test_a_job_that_may_run_where_nobody_answers_is_not_started(
    server: ScriptedServer, client: SidecarClient
) -> None:
    server.answers[:] = [ScriptedServer.CUT, ScriptedServer.CUT]

    with pytest.raises(errors.SidecarUnavailable, match="may run this job"):
        client.execute(RECOVERED)

    assert all(b"X-Bridge-If-Known: 1" in request for request in server.requests)


def test_a_job_out_of_dead_hands_is_looked_for_at_puma_workers_that_came_since_the_last_look(
    server: ScriptedServer, client: SidecarClient
) -> None:
    # A pool process knew those of its first job for ever: a job that ran at a newer one was started again.
    client.fleet.refresh()
    healthy = server._healthy()
    healthy["workers"].append({**healthy["workers"][0], "boot": BOOTS[1]})
    server.health = healthy
    server.answers[:] = [reply(404, {"code": "unknown", "message": ""}), reply(200, DONE)]

    assert client.execute(RECOVERED).status is Status.DONE

    assert [b"X-Bridge-Boot: b2b2" in request for request in server.requests] == [False, True]
    assert all(b"X-Bridge-If-Known: 1" in request for request in server.requests)


def test_a_job_out_of_dead_hands_is_looked_for_where_the_probe_is_not_answered(
    server: ScriptedServer, client: SidecarClient
) -> None:
    # They were forgotten with the first probe that took too long, and what they ran was started again.
    client.fleet.refresh()
    server.health = []
    with pytest.raises(errors.SidecarUnavailable):
        client.fleet.refresh()
    server.answers[:] = [reply(200, DONE)]

    assert client.execute(RECOVERED).status is Status.DONE


def test_a_job_is_cancelled_at_a_puma_worker_that_takes_no_more_jobs(
    server: ScriptedServer, client: SidecarClient
) -> None:
    """It was forgotten when it began to drain, and its running job could be ended no more."""
    client.fleet.refresh()
    member = client.fleet.acquire()
    other = {**server._healthy()["workers"][0], "boot": BOOTS[1]}
    server.health = {**server._healthy(), "status": "draining", "workers": [other]}
    client.fleet.refresh()
    assert client.fleet.members == []
    server.answers[:] = [reply(202, {"status": "accepted"})]

    client.cancel(DELIVERY, "deadline", "late")

    assert server.requests[0].startswith(b"POST /jobs/host:1:abc/7/cancel")
    client.fleet.release(member)
    client.fleet._silent_seconds = 0
    assert [left.worker.boot for left in client.fleet.everyone] == [BOOTS[1]]


def test_a_worker_that_stops_tells_each_puma_worker_though_one_does_not_answer(
    server: ScriptedServer, client: SidecarClient
) -> None:
    """A Puma worker that hangs would keep the jobs of the next ones from their checkpoint."""
    first = server._healthy()["workers"][0]
    server.health = {**server._healthy(), "workers": [{**first, "boot": boot} for boot in BOOTS[:2]]}
    client.fleet.refresh()
    server.answers[:] = [ScriptedServer.CUT, reply(202, {"status": "accepted", "jobs": 1})]

    client.quiet("host:1:abc")

    assert len(server.requests) == 2
    assert all(request.startswith(b"POST /workers/host:1:abc/quiet") for request in server.requests)
    boots = {boot for boot in BOOTS[:2] if any(boot.encode() in request for request in server.requests)}
    assert boots == set(BOOTS[:2])


def test_a_command_goes_on_a_fresh_connection(server: ScriptedServer, client: SidecarClient) -> None:
    """It was sent on a kept one, which the other side may have closed, and was lost with it."""
    server.answers[:] = [reply(200, DONE), reply(202, {"status": "accepted"})]
    client.execute(DELIVERY)
    (member,) = client.fleet.members
    for connection in member.idle:
        connection.close()

    client.cancel(DELIVERY, "revoked", "enough")

    assert len(server.requests) == 2


PROMOTED = reply(200, {"jobs": []})


@pytest.mark.parametrize(
    "refusal", [DRAINING, reply(421, {"code": "misdirected", "message": "m"})], ids=["503", "421"]
)
def test_due_jobs_go_to_another_puma_worker_where_the_first_goes_down(
    server: ScriptedServer, client: SidecarClient, refusal: bytes
) -> None:
    """In a rolling restart due jobs went on without client middleware, though others were ready."""
    first = server._healthy()["workers"][0]
    server.health = {**server._healthy(), "workers": [first, {**first, "boot": BOOTS[1]}]}
    client.fleet.refresh()
    server.answers[:] = [refusal, PROMOTED]

    assert client.post("/jobs/promote", b"") == b'{"jobs": []}'
    assert len(server.requests) == 2


def test_due_jobs_go_first_to_a_puma_worker_that_stays(server: ScriptedServer, client: SidecarClient) -> None:
    first = server._healthy()["workers"][0]
    going = {**first, "boot": BOOTS[1], "draining": True}
    server.health = {**server._healthy(), "workers": [going, first]}
    client.fleet.refresh()
    server.answers[:] = [PROMOTED]
    client.post("/jobs/promote", b"")
    assert f"x-bridge-boot: {first['boot']}".encode() in server.requests[0].lower()


@pytest.mark.parametrize(("status", "code"), [(500, "internal"), (403, "timestamp")])
def test_due_jobs_whose_middleware_may_have_run_are_sent_once(
    server: ScriptedServer, client: SidecarClient, status: int, code: str
) -> None:
    first = server._healthy()["workers"][0]
    server.health = {**server._healthy(), "workers": [first, {**first, "boot": BOOTS[1]}]}
    client.fleet.refresh()
    server.answers[:] = [reply(status, {"code": code, "message": "m"}), PROMOTED]
    with pytest.raises(errors.SidecarError):
        client.post("/jobs/promote", b"")
    assert len(server.requests) == 1
