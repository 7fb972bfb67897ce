"""Which settings are in force, and where each of them was said. Secrets and passwords are never shown."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from bridge.settings import loading
from bridge.settings.model import Settings
from bridge.settings.redis_url import mask
from bridge.settings.sidekiq_yml import Environment
from bridge.sidekiq.fetch.queues import QueueSet

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Origin:
    """One setting in force."""

    name: str
    """The name in a YAML file; the variable is ``BRIDGE_`` and this in capitals."""
    value: str
    """Readable, with every secret masked; empty where nothing is set."""
    source: str
    """The variable, or file, line and key; ``default`` for a setting without a value."""

    @property
    def variable(self) -> str:
        return loading.PREFIX + self.name.upper()


def origins(environ: Mapping[str, str] | None = None) -> tuple[Origin, ...]:
    """Every setting of an environment (this process's by default), in the order of the README's table.

    Raises ConfigurationError, as loading does.
    """
    given = os.environ if environ is None else environ
    found = loading.gather(given)
    settings = loading.make(found, Environment.of(given))
    return tuple(
        Origin(name, text(getattr(settings, name)), found[name][0] if name in found else DEFAULT)
        for name in Settings.model_fields
    )


def text(value: object) -> str:
    """A value as one would write it into a variable, masked."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return loading.SECRET
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, QueueSet):
        return _queues(value)
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{text(one)}" for name, one in value.items())
    if isinstance(value, enum.Enum):
        return str(value.value)
    return mask(",".join(map(str, value)) if isinstance(value, tuple) else str(value))


def spelled(queue: str) -> str:
    """The name of a queue as it is written into BRIDGE_QUEUES. A number at its end would be a weight."""
    return f"{queue}:0" if queue.rpartition(":")[2].isdigit() and ":" in queue else queue


def _queues(queues: QueueSet) -> str:
    if not any(queues.weights):
        return ",".join(spelled(name) for name in queues.names)
    return ",".join(f"{name}:{weight}" for name, weight in queues.weight_by_name.items())
