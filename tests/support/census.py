"""Where every job is, and whose key each key is."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import redis

from bridge.sidekiq.store import claims

#: Keys that open-source Sidekiq owns (wire format, 1.1), and ours.
KNOWN_KEYS = re.compile(
    rb"""^(queues|queue:[\w:.\-]+|schedule|retry|dead|processes|process_cleanup|
    stat:(processed|failed)(:\d{4}-\d\d-\d\d)?|
    [^:]+:\d+:[0-9a-f]{12}(:work|:workers|-signals)?|
    j\|.*|h\|.*|.+-\d\d-\d\d:\d+|it-[0-9a-f]+|\d{8}-marks|deploylock-.*|bridge:.+|limit_fetch:.+|limit:(processes|heartbeat:.+))$""",
    re.VERBOSE,
)


def places(client: redis.Redis) -> Counter[str]:
    """``jid in place`` for every job in Redis; a job in two places is an error whatever the test."""
    found: Counter[str] = Counter()
    for place, payload in _payloads(client):
        found[f"{_jid(payload)} in {place}"] += 1
    return found


def assert_each_in_one_place(client: redis.Redis) -> dict[str, str]:
    """jid to place; fails when a job is in two, or twice in one."""
    found: dict[str, str] = {}
    for place, payload in _payloads(client):
        jid = _jid(payload)
        assert jid not in found, f"job {jid} is in {found[jid]} and in {place}"
        found[jid] = place
    return found


def private_keys(client: redis.Redis) -> list[bytes]:
    """The bridge's own keys, without the facts that outlive their process for a while.

    Those are the number of a process's last flush of metrics (a flush that the network delivers late must
    still find it), the classes that workers track, and whether the app has error handlers.
    """
    found = sorted(client.scan_iter("bridge:*", count=1000))
    facts = {b"bridge:tracked": 24 * 3_600, b"bridge:error-handlers": 7 * 24 * 3_600}
    lasting = [key for key in found if key in facts or key.startswith(b"bridge:flushed:")]
    assert all(0 < client.ttl(key) <= facts.get(key, 24 * 3_600) for key in lasting)
    return [key for key in found if key not in lasting]


def assert_keys_clean(client: redis.Redis) -> None:
    """Only Sidekiq's keys and ``bridge:*``."""
    foreign = [key for key in client.scan_iter(count=1000) if not KNOWN_KEYS.match(key)]
    assert not foreign, f"keys that are neither Sidekiq's nor ours: {foreign}"


def inflight(client: redis.Redis) -> dict[bytes, dict[bytes, bytes]]:
    """What the workers hold: key to (token to entry). In the list of a watch the place is the token.

    Lists and hashes are read at one moment: a job moves from its list into the hash, and must not be missed.
    """
    lists = list(client.scan_iter("bridge:arrived:*", count=1000, _type="list"))
    hashes = set(client.scan_iter("bridge:inflight:*", count=1000))
    hashes |= {b":".join([b"bridge", b"inflight", *key.split(b":", 5)[2:5]]) for key in lists}
    pipeline = client.pipeline(transaction=True)
    for key in hashes:
        pipeline.hgetall(key)
    for key in lists:
        pipeline.lrange(key, 0, -1)
    answers = pipeline.execute(raise_on_error=False)  # a list may be closed meanwhile
    found: dict[bytes, Any] = {}
    for key, answer in zip([*hashes, *lists], answers, strict=True):
        if isinstance(answer, list):
            queue = key.split(b":", 6)[6]  # bridge:arrived:<host>:<pid>:<nonce>:<number>:<queue>
            found[key] = {b"%d" % place: b"1\n%s\n%s" % (queue, job) for place, job in enumerate(answer)}
        elif key in hashes:
            found[key] = answer
    return {key: entries for key, entries in found.items() if entries}


def arrived(client: redis.Redis) -> dict[bytes, list[bytes]]:
    """What Redis has moved to watches of the workers: key to payloads. A list that is closed is a string."""
    names = list(client.scan_iter("bridge:arrived:*", count=1000, _type="list"))
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.lrange(name, 0, -1)
    found = pipeline.execute(raise_on_error=False)  # a list may be closed meanwhile
    return {key: jobs for key, jobs in zip(names, found, strict=True) if isinstance(jobs, list)}


def _payloads(client: redis.Redis) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for key in client.scan_iter("queue:*", count=1000):
        found += [(key.decode(), payload) for payload in client.lrange(key, 0, -1)]
    for name in ("schedule", "retry", "dead"):
        found += [(name, payload) for payload in client.zrange(name, 0, -1)]
    for key, entries in inflight(client).items():
        found += [(key.decode(), claims.entry(0, entry).payload) for entry in entries.values()]
    return found


def _jid(payload: bytes) -> str:
    try:
        return str(json.loads(payload)["jid"])
    except (ValueError, TypeError, KeyError):
        return repr(payload[:60])
