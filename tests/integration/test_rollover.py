"""Puma workers are replaced, secrets and certificates are rotated, and no job notices."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from tests.integration.test_metric_pages import sidecar_page
from tests.support import census
from tests.support.certificates import Authority
from tests.support.processes import ROOT, Process
from tests.support.sidecar_process import JOBS
from tests.support.stage import Stage
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(240)


def load(stage: Stage, until: Callable[[], object], what: str, seconds: float = 90) -> list[str]:
    """Push small jobs all the time until ``until()``; gives their jids."""
    pushed: list[str] = []

    def push_and_look() -> object:
        pushed.extend(stage.push_job({"class": "EchoJob", "args": [], "retry": True}) for _ in range(2))
        return until()

    wait_for(push_and_look, what, seconds)
    return pushed


def assert_each_ran_once(stage: Stage, jids: list[str]) -> None:
    stage.wait_done(30)
    done = Counter(line["jid"] for line in stage.ledger.lines if line["event"] == "done")
    assert {jid: done[jid] for jid in jids} == dict.fromkeys(jids, 1)
    assert stage.counters()[1] == 0
    assert (stage.redis.zcard("retry"), stage.redis.zcard("dead")) == (0, 0)
    assert not list(stage.redis.scan_iter("bridge:recovered:*"))
    census.assert_each_in_one_place(stage.redis)


def restarts(stage: Stage, reason: str) -> int:
    assert stage.sidecar is not None
    lines = sidecar_page(stage.sidecar.socket).splitlines()
    found = [
        line for line in lines if line.startswith("bridge_sidecar_worker_restarts_total{") and reason in line
    ]
    return sum(int(line.rsplit(" ", 1)[1]) for line in found)


def rows(stage: Stage, metric: str) -> set[str]:
    """The metric of each Puma worker, with the worker's number."""
    assert stage.sidecar is not None
    lines = sidecar_page(stage.sidecar.socket).splitlines()
    return {line for line in lines if line.startswith(f"{metric}{{")}


def puma_workers(stage: Stage) -> set[str]:
    # Number and time of the start: two that are forked together may well start in the same millisecond, and a
    # test that told them apart by the time alone waited in vain for a third.
    return rows(stage, "bridge_sidecar_start_time_seconds")


def each_has_one(stage: Stage, metric: str) -> bool:
    return [line.rsplit(" ", 1)[1] for line in rows(stage, metric)] == ["1", "1"]


def test_a_puma_worker_that_grew_is_replaced_and_its_long_job_ends_in_peace(bare_stage: Stage) -> None:
    stage = bare_stage
    stage.start_sidecar(threads=3, arguments=("--workers", "2", "--max-rss", "200", "--timeout", "1"))
    wait_for(lambda: len(puma_workers(stage)) == 2, "both Puma workers", 60)
    stage.start_worker(concurrency=6)
    wait_for(lambda: each_has_one(stage, "bridge_sidecar_open_streams"), "a stream to each", 60)
    long = [stage.push_job({"class": "GateJob", "args": ["long"]}) for _ in range(2)]
    for jid in long:
        stage.ledger.wait_for("started", jid)
    # One in each: whichever grows has a long job.
    wait_for(lambda: each_has_one(stage, "bridge_sidecar_busy_slots"), "one long job in each", 10)
    before = puma_workers(stage)
    hoard = stage.push_job({"class": "HoardJob", "args": [250]})

    small = load(stage, lambda: restarts(stage, "memory") == 1, "the replacement to come")
    small += load(stage, lambda: len(puma_workers(stage)) == 3, "the new one to be there")
    stage.ledger.open_gate("long")
    small += load(stage, lambda: len(puma_workers(stage)) == 2, "the old one to leave")

    assert len(puma_workers(stage) - before) == 1
    assert_each_ran_once(stage, [*long, hoard, *small])


def consecutive_ports(count: int) -> int:
    """The first of so many free ports in a row, below those that the system gives to clients."""
    for first in random.sample(range(20_000, 32_000), 50):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


def served_serial(port: int, authority: Authority, client: Path) -> int:
    """Serial number of the certificate that a Puma worker shows now."""
    tls = ssl.create_default_context(cafile=str(authority.cert))
    tls.load_cert_chain(client, client.with_suffix(".key"))
    with (
        socket.create_connection(("127.0.0.1", port), 5) as raw,
        tls.wrap_socket(raw, server_hostname="127.0.0.1") as found,
    ):
        encoded = found.getpeercert(binary_form=True)
    assert encoded
    return x509.load_der_x509_certificate(encoded).serial_number


def test_secret_and_certificates_are_rotated_under_load_without_a_failed_job(
    bare_stage: Stage, tmp_path: Path
) -> None:
    stage = bare_stage
    if not stage.root.is_system:
        pytest.skip("the certificates lie outside the change-root")
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("worker")
    secrets = {side: tmp_path / f"{side}.secret" for side in ("sidecar", "worker")}
    for path in secrets.values():
        path.write_text("old\n")
    port = consecutive_ports(4)
    command = ["ruby", ROOT / "sidecar/bin/sidecar", "--require", JOBS, "--bind", f"ssl://127.0.0.1:{port}"]
    command += ["--tls-cert", server.cert, "--tls-key", server.key, "--tls-ca", authority.cert]
    command += ["--workers", "2", "--threads", "5", "--secret-file", secrets["sidecar"]]
    env = {"REDIS_URL": stage.redis_url, "TEST_LEDGER": str(stage.ledger.path)}
    sidecar = Process("sidecar-tls", command, tmp_path, env=env)
    try:
        sidecar.wait_ready(lambda: sidecar.log.count("ready on") == 2, 40)
        worker = stage.start_worker(
            concurrency=10,
            env={
                "BRIDGE_SIDECAR_URL": f"https://127.0.0.1:{port}",
                "BRIDGE_SIDECAR_CA": str(authority.cert),
                "BRIDGE_SIDECAR_CLIENT_CERT": str(client.cert),
                "BRIDGE_SIDECAR_CLIENT_KEY": str(client.key),
                "BRIDGE_SIDECAR_SECRET_FILE": str(secrets["worker"]),
            },
        )

        def replaced(times: int) -> bool:
            return sidecar.log.count("All that was to be replaced is") == times

        serial = served_serial(port, authority, client.cert)

        # The sidecar takes both secrets and shows a new certificate.
        secrets["sidecar"].write_text("new\nold\n")
        authority.issue("server")
        sidecar.signal(signal.SIGHUP)
        jids = load(stage, lambda: replaced(1), "both to be replaced", 120)
        jids += load(stage, lambda: served_serial(port, authority, client.cert) != serial, "the certificate")
        # The worker signs with the new one and shows a new certificate of its own; nothing is restarted.
        authority.issue("worker")
        secrets["worker"].write_text("new\n")
        jids += load(stage, lambda: "were read anew" in worker.log, "the worker to read its files", 30)
        # The old one is taken away.
        secrets["sidecar"].write_text("new\n")
        sidecar.signal(signal.SIGHUP)
        jids += load(stage, lambda: replaced(2), "both to be replaced again", 120)
        jids += load(stage, lambda: len(jids) > 200, "some more jobs")

        assert_each_ran_once(stage, jids)
        assert "signature" not in sidecar.log + worker.log
        assert "wait in their queues" not in worker.log
    finally:
        sidecar.stop()
