"""How the text of one setting becomes its value. Each function raises ValueError with a sentence."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from bridge.limits import declaration
from bridge.limits.declaration import Limit
from bridge.settings.redis_url import Address
from bridge.sidekiq.fetch.queues import QueueSet
from bridge.sidekiq.payload.queue_names import QUEUE_NAME

#: Celery's own beside ours; gevent is checked where the worker starts.
POOLS = ("bridge", "threads", "prefork", "solo", "gevent", "processes")
_QUEUE_SPELLING = (
    "a queue is written name, name:weight or name,weight (letters, digits and _ : . -; weights from 0)"
)


def names(value: object) -> tuple[str, ...]:
    """A list, or text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple | set | frozenset):
        raise ValueError("this is a list, or names separated by commas")
    return tuple(str(part).strip() for part in parts if str(part).strip())


def queues(value: object) -> QueueSet:
    """``"critical,default"``, ``"critical:3,default:1"``, or YAML's lists and mappings of the same."""
    if isinstance(value, QueueSet):
        return value
    entries = [_named_entry(entry) for entry in _queue_entries(value)]
    if not entries:
        raise ValueError("at least one queue is needed")
    return QueueSet.of(entries)


def _queue_entries(value: object) -> Iterable[object]:
    if isinstance(value, str):
        return [part for part in value.split(",") if part.strip()]
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return value
    raise ValueError(_QUEUE_SPELLING)


def _named_entry(entry: object) -> tuple[str, int]:
    try:
        return _queue_entry(entry)
    except ValueError as error:
        shown = "an empty entry" if entry is None else repr(entry)
        raise ValueError(f"{shown} is not a queue; {error}") from None


def _queue_entry(entry: object) -> tuple[str, int]:
    if isinstance(entry, dict) and len(entry) == 1:
        entry = next(iter(entry.items()))
    if isinstance(entry, list | tuple) and len(entry) in (1, 2):
        return _queue(str(entry[0]), str(entry[1]) if len(entry) == 2 else "0")
    if not isinstance(entry, str):
        raise ValueError(_QUEUE_SPELLING)
    # A name may hold colons of its own, so only a number behind the last one is a weight.
    match = re.fullmatch(r"\s*:?(.+?)(?:\s*[:,]\s*(-?\d+))?\s*", entry)
    return _queue(match[1], match[2] or "0") if match else _queue(entry, "0")


def _queue(name: str, weight: str) -> tuple[str, int]:
    name = name.strip().removeprefix(":")
    if not QUEUE_NAME.fullmatch(name) or not re.fullmatch(r"\d{1,3}", weight.strip()):
        raise ValueError(_QUEUE_SPELLING)
    return name, int(weight)


def bind_address(value: object) -> Address:
    """``host:port``."""
    if isinstance(value, Address):
        return value
    match = re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^:\s]+):(\d{1,5})", str(value).strip())
    if match is None or int(match[2]) > 65_535:
        raise ValueError("an address is written host:port")
    return Address(match[1].strip("[]"), int(match[2]))


def sidecar_urls(value: object) -> tuple[str, ...]:
    """One or more of ``http://``, ``https://`` and ``unix:///``."""
    urls = names(value)
    if not urls or not all(_is_sidecar_url(url) for url in urls):
        raise ValueError("a sidecar's address is http://host:port, https://host:port or unix:///path")
    return urls


def is_loopback(url: str) -> bool:
    """Whether what is sent to this sidecar stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return url.startswith("unix:") or host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name: may be anywhere
        return False


def _is_sidecar_url(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.netloc == "" and parts.path.startswith("/") and len(parts.path) > 1
    if parts.port == 0:
        raise ValueError("a port is a number from 1 to 65535")
    if parts.path.strip("/") or parts.query:
        raise ValueError("a sidecar's address ends after its port: http://host:port")
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc


def limits(value: object) -> tuple[Limit, ...]:
    """YAML's list of limits, or the same as JSON."""
    if isinstance(value, tuple) and all(isinstance(one, Limit) for one in value):
        return value
    if isinstance(value, str):
        if not value.strip():
            return ()
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(
                f"this is not JSON ({error}); write for example [{declaration.EXAMPLE}]"
            ) from None
    return declaration.limits(value)


def time_limits(value: object) -> dict[str, float]:
    """``"ReportJob:600,*:7200"``, or YAML's mapping of the same: class to seconds."""
    pairs = value.items() if isinstance(value, dict) else (part.rpartition(":")[::2] for part in names(value))
    return dict(_time_limit(str(name).strip(), str(seconds).strip()) for name, seconds in pairs)


def _time_limit(name: str, seconds: str) -> tuple[str, float]:
    if not name or not re.fullmatch(r"\d+(\.\d+)?", seconds) or float(seconds) <= 0:
        raise ValueError("a time limit is written ClassName:seconds, with * for all other classes")
    return name, float(seconds)


def pool(value: object) -> str:
    """``bridge``, a pool of Celery's by its name, or a dotted path to another."""
    text = str(value).strip()
    if text in POOLS or re.fullmatch(r"\w+(\.\w+)*[.:]\w+", text):
        return text
    raise ValueError(f"this is one of {', '.join(POOLS)}")


def retry_backoff(value: object) -> bool | float | None:
    """Unset, ``true`` (Celery's backoff from 1 s) or a number of seconds to start from."""
    text = str(value).strip().lower()
    if value is None or text in ("", "false", "no", "off"):
        return None
    if text in ("true", "yes", "on"):
        return True
    if re.fullmatch(r"\d+(\.\d+)?", text) and float(text) > 0:
        return float(text)
    raise ValueError("this is true, a number of seconds above 0, or nothing at all")
