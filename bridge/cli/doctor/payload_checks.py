"""Looks at waiting jobs: features that live outside of server middleware, and jobs that were refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bridge.cli.doctor.finding import Check, Finding, error, hint, warning
from bridge.cli.doctor.site import Site
from bridge.redis.outages import outages
from bridge.sidekiq import keys

#: Fields of Sidekiq Pro and Enterprise, with what they need.
_FEATURES = {
    "bid": (
        "batches",
        "callbacks run only if Pro's client and death handlers see every job: keep these classes on Sidekiq",
    ),
    "unique_for": (
        "unique jobs",
        "the lock ends as Ruby's middleware says; a job that Python pushes takes none",
    ),
    "encrypt": ("encrypted arguments", "only Ruby can read them: do not move these classes to Python"),
}
_REFUSALS = {
    "Bridge::JobRefused": (
        "refused-classes",
        "they are not job classes, not in --allow, or too large: the entry's message says which",
    ),
    "Bridge::PoisonPill": (
        "poison-pills",
        "a worker or sidecar died three times with it in hand: look at its memory; run it alone",
    ),
    "Bridge::InvalidPayload": (
        "invalid-payloads",
        "a client pushes JSON that is not a job; the original is in its arguments",
    ),
}


def features(site: Site) -> Iterator[Finding]:
    for name, (feature, meaning) in _FEATURES.items():
        classes = Counter(
            str(e.job.display_class) for e in site.sample if e.job.fields.get(name) not in (None, False)
        )
        if classes:
            seen = f"Sidekiq Pro or Enterprise's {feature} ({name}) in jobs of {_names(classes)}"
            yield warning(f"feature-{name.replace('_', '-')}", seen, meaning)


def limiters(site: Site) -> Iterator[Finding]:
    with outages():
        _, found = site.client.scan(0, match="lmtr-*", count=5000)
    if found:
        seen = f"Sidekiq Enterprise's limiters are in use ({_text(found[0])})"
        cure = "they work where Ruby runs the job; native tasks do not see them"
        yield hint("limiters", seen, cure)


def refused(site: Site) -> Iterator[Finding]:
    for error_class, (code, cure) in _REFUSALS.items():
        dead = [
            e
            for e in site.sample
            if e.place.key == keys.DEAD and e.job.fields.get("error_class") == error_class
        ]
        if dead:
            names = _names(Counter(str(entry.job.display_class) for entry in dead))
            yield warning(
                code, f"{len(dead)} of the latest dead jobs ended with {error_class}: {names}", cure
            )


def key_types(site: Site) -> Iterator[Finding]:
    wanted = {
        keys.RETRY: b"zset",
        keys.SCHEDULE: b"zset",
        keys.DEAD: b"zset",
        keys.QUEUES: b"set",
        keys.PAUSED: b"set",
    }
    with outages():
        found = {name: site.client.type(name) for name in wanted}
    for name, kind in found.items():
        if kind not in (b"none", wanted[name]):
            said = kind.decode() if isinstance(kind, bytes) else str(kind)
            cure = "find out who writes there; RENAME it away: Sidekiq cannot work like this either"
            yield error(
                "foreign-key", f"the key {name} is a {said}, not Sidekiq's {wanted[name].decode()}", cure
            )


def _text(key: bytes | str) -> str:
    return key.decode(errors="replace") if isinstance(key, bytes) else key


def _names(classes: Counter[str]) -> str:
    shown = [name for name, _ in classes.most_common(3)]
    return ", ".join(shown) + (f" and {len(classes) - 3} more" if len(classes) > 3 else "")


CHECKS: tuple[Check, ...] = (key_types, features, limiters, refused)
