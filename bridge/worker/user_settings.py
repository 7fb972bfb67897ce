"""The user's own Celery settings over ours.

Ours are defaults: they lie under ``config_from_object``, ``app.conf``, CELERY_CONFIG_MODULE and the settings
of Django. A user who sets one thing leaves all the others in force, and a sentence can name who set what.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from celery.app import defaults as celery_defaults
from celery.app.defaults import DEFAULTS
from kombu import Queue

from bridge import celery_settings
from bridge.broker.context import OPTION
from bridge.settings.redis_url import Address
from bridge.sidekiq.keys import QUEUE_PREFIX

if TYPE_CHECKING:
    from bridge.runtime import Runtime
    from bridge.settings import Settings

#: The meaning of ``BRIDGE_POOL=bridge``; Celery takes a configured pool by its path.
OWN_POOL = celery_settings.worker_pool

#: What Celery reads from the environment, over every other place.
ENVIRONMENT = {
    "broker_url": "CELERY_BROKER_URL",
    "broker_read_url": "CELERY_BROKER_READ_URL",
    "broker_write_url": "CELERY_BROKER_WRITE_URL",
    "result_backend": "CELERY_RESULT_BACKEND",
}
#: ``-P x``, ``-Px``, ``--pool x``, ``--pool=x``, and -P behind flags; not ``--pool-start-method``.
_NAMES_POOL = re.compile(r"-[BDE]*P.*|--pool(=.*)?")
#: Names of settings, old ones too, in lower case.
_KNOWN = {name.lower() for name in (*DEFAULTS, *celery_defaults._OLD_DEFAULTS)}  # type: ignore[attr-defined]
_TRANSPORT_OPTIONS = "broker_transport_options"


class UserSettings:
    """Puts our defaults under an application's settings, and knows who set what above them."""

    def __init__(self, app: Any) -> None:
        self._app: Any = app
        runtime: Runtime = app.bridge
        self.ours: Mapping[str, Any] = defaults(runtime)
        """Our defaults by Celery's names."""
        self._needed = {
            OPTION: runtime.context,
            # Flower reads depths as LLEN <prefix><queue>, summed over these priorities.
            "global_keyprefix": QUEUE_PREFIX,
            "priority_steps": [0],
        }
        self._command_line: set[str] = set()
        # First among the receivers: those of the user read complete settings. Celery sends this signal for
        # each configuration that it loads.
        self._app.on_after_configure.connect(self._put_under, sender=app, weak=False)

    def came_by_command_line(self, names: Mapping[str, Any]) -> None:
        """Note the settings at the end of ``celery worker``: ``-- worker.concurrency=4``."""
        self._command_line.update(names)

    def ensure_transport_options(self) -> None:
        """Put what a connection needs into the user's ``broker_transport_options``: Flower reads them."""
        conf = self._app.conf
        given = conf[_TRANSPORT_OPTIONS] or {}
        if given.get(OPTION) is not self._needed[OPTION]:
            conf[_TRANSPORT_OPTIONS] = {**given, **self._needed}

    def transport_options(self) -> dict[str, Any]:
        """The user's own ``broker_transport_options``."""
        given = self._app.conf[_TRANSPORT_OPTIONS] or {}
        return {name: value for name, value in given.items() if name not in self._needed}

    def names(self) -> Iterator[str]:
        """Each setting of Celery's that the user has set to something else than the default."""
        conf = self._app.conf
        for name, default in {**DEFAULTS, **self.ours}.items():
            if conf[name] != default and self.place(name):
                yield name

    def unknown(self) -> Iterator[tuple[str, str]]:
        """Plain values under names that Celery does not know, in lower case, and the place of each."""
        prefix = f"{self._app.namespace}_".lower() if self._app.namespace else ""
        found = [(name, value, "in app.conf") for name, value in self._app.conf.changes.items()]
        source = self._app.loader.conf or {}
        found += [(name, value, f"in {self._source()}") for name, value in source.items()]
        for name, value, place in found:
            short = str(name).lower().removeprefix(prefix)
            is_plain = not (callable(value) or isinstance(value, ModuleType) or name.startswith("_"))
            if (
                is_plain
                and short not in _KNOWN
                and (place == "in app.conf" or str(name).lower() != short or not prefix)
            ):
                yield short, place

    def place(self, name: str) -> str | None:
        """The place that set it, in words; None if the value is ours or Celery's own."""
        conf = self._app.conf
        if os.environ.get(variable := ENVIRONMENT.get(name, "")):
            return f"in {_said_in(variable)}"
        if name in self._command_line:
            return "on the command line"
        keys = list(dict.fromkeys(conf._to_keys(name)))
        if any(key in conf.changes for key in keys):
            return "in app.conf"
        source = self._app.loader.conf
        found = next((key for key in keys if key in source), None) if source is not None else None
        if found is None:
            return None
        return f"in {self._source()}" if found == name else f"as {found} in {self._source()}"

    def _source(self) -> str:
        """The object that the user's settings come from."""
        source = self._app._config_source
        if source is None:
            return f"{os.environ.get('CELERY_CONFIG_MODULE') or 'celeryconfig'} (CELERY_CONFIG_MODULE)"
        if isinstance(source, str):
            return source
        return str(getattr(source, "__name__", f"the {type(source).__name__} of config_from_object"))

    def _put_under(self, sender: Any, source: Any, **_: Any) -> None:
        last = len(source.maps) - 1  # Celery's own defaults
        source.maps.insert(last, self.ours)
        source.defaults.insert(last - 1, self.ours)
        source[_TRANSPORT_OPTIONS] = {**(source[_TRANSPORT_OPTIONS] or {}), **self._needed}


def _said_in(variable: str) -> str:
    """The celery command copies its options, and two variables without a prefix, into CELERY_ variables."""
    short = variable.removeprefix("CELERY_")
    same = os.environ.get(short) == os.environ[variable]
    return (
        f"{variable} (or {short}, or on the command line)" if same else f"{variable} (or on the command line)"
    )


def defaults(runtime: Runtime) -> dict[str, Any]:
    """``bridge/celery_settings.py``, and the settings that come from the environment."""
    settings = runtime.settings
    found = {name: value for name, value in vars(celery_settings).items() if not name.startswith("_")}
    found |= {
        "broker_url": _broker_url(runtime),
        "worker_pool": _pool(settings, sys.argv),
        "worker_enable_remote_control": settings.remote_control,
        "result_expires": settings.result_ttl_seconds,
        "task_queues": [Queue(name, routing_key=name) for name in settings.queues.names],
    }
    if settings.concurrency is not None:
        found["worker_concurrency"] = settings.concurrency
    if settings.child_max_memory_megabytes is not None:
        found["worker_max_memory_per_child"] = settings.child_max_memory_megabytes * 1_000_000 // 1024
    return found


def _broker_url(runtime: Runtime) -> str:
    """The URL as Celery and Flower show it. The transport connects by the settings, in whatever form."""
    address = runtime.redis_address
    scheme = "rediss" if address.tls else "redis"
    host, port = address.sentinels[0] if address.sentinels else (address.host, address.port)
    user, secret = quote(address.username or "", safe=""), quote(address.password or "", safe="")
    credentials = f"{user}:{secret}@" if secret else f"{user}@" if user else ""
    if address.path:  # Celery's and Flower's spelling
        return f"redis+socket://{credentials}{quote(address.path)}?virtual_host={address.database}"
    return f"{scheme}://{credentials}{Address(host, port)}/{address.database}"


def _pool(settings: Settings, argv: list[str]) -> str:
    """In Celery a configured pool beats even an explicit ``-P prefork``: so it gives way to any -P."""
    if any(_NAMES_POOL.fullmatch(word) for word in argv[1:]):
        return "prefork"
    return OWN_POOL if settings.pool == "bridge" else settings.pool
