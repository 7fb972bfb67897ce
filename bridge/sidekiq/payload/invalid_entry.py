"""The dead entry of bytes that are not a job."""

from __future__ import annotations

import base64
import hashlib

from bridge.sidekiq.payload import ruby_json
from bridge.sidekiq.payload.job import JID_BYTES, new_jid
from bridge.sidekiq.payload.timestamps import Timestamps


def invalid_entry(
    raw: bytes, queue: str, reason: str, now: float, timestamps: Timestamps = Timestamps.SECONDS
) -> bytes:
    """Make the dead entry for JSON that is not an object: a job that Sidekiq's pages can show.

    The original is kept whole in ``args``. The jid is made of the bytes and the time, so that the entry can
    be opened.
    """
    stamp = timestamps.stamp(now)
    return ruby_json.encode(
        {
            "class": "Bridge::InvalidPayload",
            "args": _original(raw),
            "jid": _jid_of(raw, now),
            "queue": queue,
            "retry": False,
            "created_at": stamp,
            "failed_at": stamp,
            "error_class": "Bridge::InvalidPayload",
            "error_message": reason,
        }
    )


def _original(raw: bytes) -> list[str]:
    """The text; and where the bytes are not UTF-8, which JSON cannot carry, them in Base64 as well."""
    try:
        return [raw.decode()]
    except UnicodeDecodeError:
        return [raw.decode("utf-8", "replace"), "base64:" + base64.b64encode(raw).decode()]


def _jid_of(raw: bytes, now: float) -> str:
    return new_jid(hashlib.sha256(raw + repr(now).encode()).digest()[:JID_BYTES])
