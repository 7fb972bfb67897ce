"""Signs requests and checks replies as the protocol says: who asks, whom, what, when, and only once."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.sidecar.messages import BadReply, Reply

PROTOCOL = 2
NONCE = re.compile(r"[0-9a-f]{32}")
Headers = list[tuple[str, str]]

#: A sidecar that does not know our secret, or not our protocol, can only say so unsigned.
_MAY_BE_UNSIGNED = (400, 401)
_PREFIX = b"x-bridge-"
_SIGNATURE = b"x-bridge-signature"


def first_secret(text: str | None) -> bytes | None:
    """The one to sign with: the first, where there are two during a rotation. Raises ValueError for none."""
    if text is None:
        return None
    secret = re.split(r"[,\n]", text.strip())[0].strip()
    if not secret:
        raise ValueError("the secret is empty")
    return secret.encode()


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The headers of one request, and what its reply must be signed with."""

    headers: Headers
    secret: bytes | None = None
    nonce: str = ""

    def check(self, reply: Reply) -> Reply:
        """The reply, if the sidecar that we meant wrote it. A refusal may be unsigned, and says so.

        Raises:
            BadReply: the signature is missing or wrong.
        """
        if self.secret is None:
            return reply
        if self._signed(reply):
            return _first_answer(reply)
        if reply.status not in _MAY_BE_UNSIGNED:
            raise BadReply(
                "the reply is not signed with the shared secret: another process may have written it"
            )
        return reply.unproven()

    def _signed(self, reply: Reply) -> bool:
        assert self.secret is not None
        text = reply_text(self.nonce, reply.status, reply.headers, reply.body)
        digest = "v2=" + hmac.new(self.secret, text, hashlib.sha256).hexdigest()
        return hmac.compare_digest(reply.headers.get(_SIGNATURE, b""), digest.encode())


class Signer:
    """Signs with one shared secret, or leaves requests as they are (Unix socket without a secret)."""

    def __init__(self, secret: bytes | None) -> None:
        self._secret = secret

    @classmethod
    def of(cls, text: str | None) -> Signer:
        """For a secret as the settings have it: during a rotation the first of two signs."""
        return cls(first_secret(text))

    def replace(self, secret: bytes | None) -> None:
        """Sign with another secret from now on."""
        self._secret = secret

    def request(self, method: str, path: str, headers: Headers, body: bytes) -> SignedRequest:
        """``headers`` (X-Bridge headers only) with the body's hash, a timestamp, a nonce and a signature."""
        secret = self._secret
        if secret is None:
            return SignedRequest(headers)
        nonce = os.urandom(16).hex()
        signed = [
            *headers,
            ("X-Bridge-Content-Sha256", hashlib.sha256(body).hexdigest()),
            ("X-Bridge-Timestamp", str(int(time.time()))),
            ("X-Bridge-Nonce", nonce),
        ]
        digest = hmac.new(secret, signed_text(method, path, signed).encode(), hashlib.sha256).hexdigest()
        return SignedRequest([*signed, ("X-Bridge-Signature", f"v2={digest}")], secret, nonce)

    def sign(self, method: str, path: str, headers: Headers, body: bytes) -> Headers:
        """The headers alone, for a request whose reply is checked by the caller."""
        return self.request(method, path, headers, body).headers


def _first_answer(reply: Reply) -> Reply:
    """A relay that sends a request twice has a job run, and hands on the refusal of the second one."""
    if reply.status == 403 and b'"replay"' in reply.body:
        raise BadReply("the request was sent twice under way: the first answer is missing")
    return reply


def signed_text(method: str, path: str, headers: Iterable[tuple[str, str]]) -> str:
    """The text under a request's signature, line by line. A header holds the hash of the body."""
    lines = [f"{name}:{value}" for name, value in sorted((name.lower(), value) for name, value in headers)]
    return "\n".join(["bridge-v2", method, path, *lines])


def reply_text(nonce: str, status: int, headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    """The text under a reply's signature. ``headers`` have names in lower case."""
    lines = [
        name + b":" + value
        for name, value in sorted(headers.items())
        if name.startswith(_PREFIX) and name != _SIGNATURE
    ]
    first = f"bridge-v2-reply\n{nonce}\n{status}".encode()
    return b"\n".join([first, *lines, hashlib.sha256(body).hexdigest().encode()])
