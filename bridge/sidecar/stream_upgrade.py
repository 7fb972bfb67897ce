"""Turns a connection of HTTP into a stream."""

from __future__ import annotations

import socket
from typing import NamedTuple

from bridge.sidecar.http import HttpConnection, request_bytes
from bridge.sidecar.messages import BadReply
from bridge.sidecar.seal import Seal, stream_key
from bridge.sidecar.signature import NONCE, PROTOCOL, SignedRequest, Signer

PATH = "/jobs/stream"


class OpenStream(NamedTuple):
    """A connection that carries frames. The seals are None without a secret."""

    socket: socket.socket
    sending: Seal | None = None
    receiving: Seal | None = None


def open_stream(
    connection: HttpConnection, authority: str, boot: str, signer: Signer, timeout_seconds: float
) -> OpenStream:
    """Upgrade a connection to a stream.

    Raises:
        OSError: it broke.
        BadReply: the sidecar does not offer streams, refuses us, or is not the one that was meant.
    """
    headers = [("X-Bridge-Protocol", str(PROTOCOL)), ("X-Bridge-Boot", boot)]
    signed = signer.request("POST", PATH, headers, b"")
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "bridge-jobs")]
    try:
        request = request_bytes("POST", PATH, authority, upgrade + signed.headers, b"")
        reply = signed.check(connection.upgrade(request, timeout_seconds))
        return _sealed(connection.detach(), signed, reply.headers.get(b"x-bridge-nonce", b""), boot)
    except BaseException:
        connection.close()
        raise


def _sealed(sock: socket.socket, signed: SignedRequest, reply_nonce: bytes, boot: str) -> OpenStream:
    if signed.secret is None:
        return OpenStream(sock)
    theirs = reply_nonce.decode("ascii", "replace")
    if not NONCE.fullmatch(theirs):
        raise BadReply("the sidecar opened a stream without a nonce")
    key = stream_key(signed.secret, signed.nonce, theirs, boot)
    return OpenStream(sock, Seal(key, "worker"), Seal(key, "sidecar"))
