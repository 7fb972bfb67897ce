"""A worker's rows of Sidekiq's Busy page: the registration, the beat, the running jobs.

Follows ``launcher.rb``: a superset of what 6.4 to 8.1 write, because 7.2 to 8.1.1 raise on a process without
``concurrency`` in its info, 8.0.9 and 8.1.1 on one without ``capsules``, and 8.1.2 reads ``concurrency`` from
the hash only.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import PayloadError
from bridge.sidekiq.fetch.queues import QueueSet
from bridge.sidekiq.payload import ruby_json
from bridge.sidekiq.payload.job import SidekiqJob

_DIGITS = string.digits + string.ascii_lowercase
#: A row is written every five seconds, so it names no more classes.
MOST_CLASSES = 500
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One worker process, as it registers itself."""

    hostname: str
    """The host's name, or ``$DYNO``."""
    pid: int
    nonce: str
    """12 hex digits: host and pid repeat, in containers at once."""
    started_at: float
    """Epoch seconds."""
    queues: QueueSet
    concurrency: int
    version: str
    """The Sidekiq version that this worker claims to work like."""
    tag: str = ""
    labels: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    """Classes with a native task: `bridge move` asks for them."""
    shadow_safe: tuple[str, ...] = ()
    """Of those, the ones whose task may run as a shadow."""

    @property
    def identity(self) -> str:
        return f"{self.hostname}:{self.pid}:{self.nonce}"

    def info_json(self) -> str:
        """The ``info`` field: constant as long as the process lives."""
        return ruby_json.encode({**self._who(), **self._what(), **self._python()}).decode()

    def _who(self) -> dict[str, object]:
        return {
            "hostname": self.hostname,
            "started_at": float(self.started_at),
            "pid": self.pid,
            "tag": self.tag,
            "labels": list(self.labels),
            "identity": self.identity,
            "version": self.version,
            "embedded": False,  # true would hide Quiet and Stop
        }

    def _what(self) -> dict[str, object]:
        weights = self.queues.weight_by_name
        capsule = {"concurrency": self.concurrency, "mode": self.queues.mode.value, "weights": weights}
        return {
            "concurrency": self.concurrency,
            "queues": list(self.queues.names),
            "weights": [weights],
            "capsules": {"default": capsule},
        }

    def _python(self) -> dict[str, object]:
        """Fields of ours. Sidekiq's pages read none of them."""
        fields = {"bridge_python": self.python, "bridge_shadow_safe": self.shadow_safe}
        return {name: list(classes[:MOST_CLASSES]) for name, classes in fields.items() if classes}


def beat_fields(
    *, busy: int, quiet: bool, rss_kb: int, rtt_us: int, now: float, concurrency: int
) -> dict[str, str | int | float]:
    """The fields of the identity hash that change; ``now`` in epoch seconds."""
    return {
        "busy": busy,
        "beat": float(now),
        "rtt_us": rtt_us,
        "quiet": "true" if quiet else "false",  # any other spelling reads as not quiet
        "rss": rss_kb,
        "concurrency": concurrency,
    }


def tagged(job: SidekiqJob, tag: str) -> bytes:
    """A job's payload as its row shows it, with one more tag; as it is where that cannot be told."""
    tags = job.fields.get("tags") or []
    if not isinstance(tags, list) or tag in tags:
        return job.raw
    try:
        return job.with_fields({"tags": [*tags, tag]})
    except (PayloadError, ValueError):  # bytes that only Ruby can read
        return job.raw


def work_row(queue: str, payload: bytes, run_at: float) -> str:
    """One running job as JSON; ``run_at`` (epoch seconds) is an integer in every version."""
    text = payload.decode("utf-8", "replace")
    return ruby_json.encode({"queue": queue, "payload": text, "run_at": int(run_at)}).decode()


def tid(token: int) -> str:
    """The name of a running job's row: a number of 0 or more, in base 36 like Sidekiq's thread ids."""
    digits = ""
    while token >= 36:
        token, digit = divmod(token, 36)
        digits = _DIGITS[digit] + digits
    return _DIGITS[token] + digits


def rss_kb(status: Path = _STATUS) -> int:
    """Resident memory of this process in KB; 0 where the system has no /proc."""
    try:
        lines = status.read_text().splitlines()
    except OSError:  # not Linux: the Busy page shows 0, nothing else depends on it
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
