"""Requests drawn from docs/openapi.json, valid and broken: the sidecar answers each as documented.

The draws are the same in each run. Signed and unsigned requests, with a length and in chunks.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.sidecar.signature import Signer
from tests.faults.test_garbage_requests import SECRET, Target, boot_of, status_of, target
from tests.support.processes import ROOT

__all__ = ["target"]

pytestmark = pytest.mark.short
DOCUMENT = json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8"))
OPERATIONS = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in ("get", "post")
]
drawn = settings(
    deadline=None, max_examples=250, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).map(str.strip)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CLASSES = st.sampled_from(["EchoJob", "Kernel", "Object::EchoJob", "No::Such", "\x1b[2J\nEchoJob", ""])
PAYLOADS = st.fixed_dictionaries(
    {"class": CLASSES | JSON, "args": JSON},
    optional={"jid": JSON, "queue": JSON, "retry": JSON, "wrapped": CLASSES, "cattr": JSON, "tags": JSON},
)
BODIES = (
    st.just(b"")
    | st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | PAYLOADS.map(lambda value: json.dumps(value).encode())
    | st.sampled_from([b'{"reason":"revoked"}', b"2\n{}", b"99999\n{}", b"x" * 70_000, b"x" * 150_000])
)
VALID = {
    "X-Bridge-Delivery": st.from_regex(r"\Afuzz:1:[a-f]{4}/[0-9]{1,9}\Z"),
    "X-Bridge-Claimed-At": st.integers(0, 2**62).map(str),
    "X-Bridge-Queue": st.sampled_from(["default", "a%20b", "%ff%00", "%"]),
    "X-Bridge-Wait-Ms": st.just("2000"),
    "X-Bridge-Recovered": st.integers(0, 9).map(str),
    "X-Bridge-Track": st.sampled_from(["1", "0", "x"]),
    "X-Bridge-If-Known": st.just("1"),
    "X-Bridge-Correlation-Id": TEXT,
    "X-Bridge-Unheard-Of": TEXT,
    "traceparent": TEXT,
    "baggage": TEXT,
}
QUERIES = st.sampled_from(
    ["", "", "", "?wait_ms=1", "?wait_ms=x", "?wait_ms=-1", "?a[a][a]", "?%", "?a=1&a[b]=2", "?%ff=%fe"]
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, str, str, dict[str, str], bytes, str, str]:
    """Number of the operation, method, target, headers, body, how it is signed, how it is sent."""
    number = draw(st.integers(0, len(OPERATIONS) - 1))
    path, method, _ = OPERATIONS[number]
    word = st.from_regex(r"\A[a-z0-9:]{1,12}\Z")
    segment = word | st.sampled_from(["%ff", "%", "a%00b", "%E0%A4%A", "..", "%2f"])
    path = re.sub(r"\{\w+\}", lambda _: draw(segment), path) + draw(QUERIES)
    broken = draw(st.sampled_from([None, None, None, *VALID]))
    there = draw(st.sets(st.sampled_from(sorted(VALID)), max_size=4)) | {
        "X-Bridge-Delivery",
        "X-Bridge-Claimed-At",
    }
    headers = {name: draw(TEXT if name == broken else VALID[name]) for name in sorted(there)}
    headers["X-Bridge-Protocol"] = draw(st.sampled_from(["2"] * 9 + ["1", "x"]))
    signing = draw(st.sampled_from(["right"] * 5 + ["wrong", "none", "other body"]))
    sending = draw(st.sampled_from(["length"] * 3 + ["chunked", "trailer", "extension", "expect", "1.0"]))
    return number, method.upper(), path, headers, draw(BODIES) if method == "post" else b"", signing, sending


def raw(request: tuple[int, str, str, dict[str, str], bytes, str, str], boot: str) -> bytes:
    _, method, path, headers, body, signing, sending = request
    lines = [*headers.items(), ("X-Bridge-Boot", boot)]
    if signing != "none":
        secret = SECRET if signing != "wrong" else "guessed"
        signed_body = body if signing != "other body" else body + b"x"
        lines = Signer(secret.encode()).sign(method, path, lines, signed_body)
    version = "1.0" if sending == "1.0" else "1.1"
    if "/jobs/stream" in path:
        lines += [("Connection", "Upgrade"), ("Upgrade", "bridge-jobs")]
    else:
        lines.append(("Connection", "close"))
    if sending in ("chunked", "trailer", "extension") and method == "POST":
        lines.append(("Transfer-Encoding", "chunked"))
        body = _chunks(body, sending)
    else:
        lines.append(("Content-Length", str(len(body))))
    if sending == "expect":
        lines.append(("Expect", "100-continue"))
    head = "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *(f"{a}: {b}" for a, b in lines)])
    return head.encode("latin-1") + b"\r\n\r\n" + body


def _chunks(body: bytes, sending: str) -> bytes:
    note = b";a=b" if sending == "extension" else b""
    cut = [body[at : at + 30_000] for at in range(0, len(body), 30_000)]
    end = b"0\r\n" + (b"X-Bridge-Queue: other\r\n" if sending == "trailer" else b"") + b"\r\n"
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), note, part) for part in cut) + end


def exchange(port: int, text: bytes) -> bytes:
    """The whole answer; a 100 before it is left out. Empty where the end came as a reset."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        with contextlib.suppress(OSError):  # it may answer before it has heard all
            sock.sendall(text)
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(65536):
                said += chunk
                if said.startswith(b"HTTP/1.1 101"):
                    break
    return said.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")


def errors_of(answer: bytes, operation: dict[str, Any]) -> Iterator[str]:
    """What the document does not say of this answer."""
    status = status_of(answer.replace(b"HTTP/1.0", b"HTTP/1.1", 1))
    if str(status) not in operation["responses"]:
        yield f"status {status} is not documented"
        return
    content = operation["responses"][str(status)].get("content", {})
    if "application/json" in content:
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        schema = {**content["application/json"]["schema"], "components": DOCUMENT["components"]}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(body):
            yield str(error.message)


@drawn
@given(requests())
def test_each_answer_is_documented(
    target: Target, request_of: tuple[int, str, str, dict[str, str], bytes, str, str]
) -> None:
    number, _, path, _, body, signing, _ = request_of
    operation = OPERATIONS[number][2]
    boot = "0" * 16 if operation["operationId"] == "drain" else boot_of(target)
    answer = exchange(target.port, raw(request_of, boot))

    if not answer and len(body) > 64_000 and signing != "right":
        return  # answered before the body had come, and the rest of it was met by a reset
    if b"%" in path.encode() and status_of(answer.replace(b"1.0", b"1.1", 1)) in (400, 404):
        return  # a path that is none
    assert list(errors_of(answer, operation)) == [], answer[:300]


def test_nothing_of_it_is_a_traceback_and_it_runs_jobs(target: Target) -> None:
    target.assert_well()
    assert " ERROR" not in target.process.log  # a crash of the sidecar; jobs that fail are warnings
    assert "\x1b[2J" not in target.process.log
