"""Signs requests as the protocol says: who asks, whom, what, when, and only once."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Iterable


def first_secret(text: str | None) -> bytes | None:
    """The one to sign with: the first, where there are two during a rotation. Raises ValueError for none."""
    if text is None:
        return None
    secret = re.split(r"[,\n]", text.strip())[0].strip()
    if not secret:
        raise ValueError("the secret is empty")
    return secret.encode()


class Signer:
    """Signs with one shared secret, or leaves requests as they are (Unix socket without a secret)."""

    def __init__(self, secret: bytes | None) -> None:
        self._secret = secret

    @classmethod
    def of(cls, text: str | None) -> Signer:
        """For a secret as it stands in the settings: during a rotation two, of which the first signs."""
        return cls(first_secret(text))

    def replace(self, secret: bytes | None) -> None:
        """Sign with another secret from now on."""
        self._secret = secret

    def sign(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> list[tuple[str, str]]:
        """``headers`` (X-Bridge headers only) with timestamp, nonce and signature added."""
        if self._secret is None:
            return headers
        signed = [
            *headers,
            ("X-Bridge-Timestamp", str(int(time.time()))),
            ("X-Bridge-Nonce", os.urandom(16).hex()),
        ]
        text = signed_text(method, path, signed, body)
        digest = hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
        return [*signed, ("X-Bridge-Signature", f"v1={digest}")]


def signed_text(method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> str:
    """The text under the signature, line by line."""
    lines = sorted(f"{name.lower()}:{value}" for name, value in headers)
    return "\n".join(["bridge-v1", method, path, *lines, hashlib.sha256(body).hexdigest()])
