"""The source of each setting, for the sentences that name one."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import PrivateAttr
from pydantic_settings import BaseSettings, SettingsConfigDict

from bridge.settings.files import Described


class Told(BaseSettings):
    """The origin of the settings; a part of ``Settings``. ``loading`` fills it in."""

    #: Only ``Settings``, which is made of these parts, is ever filled in.
    model_config = SettingsConfigDict(defer_build=True)

    _sources: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _file: Described = PrivateAttr(default_factory=Described)

    def told_by(self, sources: Mapping[str, str], file: Described) -> None:
        """``sources`` names the place of each given setting; ``file`` describes BRIDGE_CONFIG."""
        self._sources, self._file = sources, file

    def says(self, name: str) -> bool:
        """Whether the environment or the file gives this setting."""
        return name in self.model_fields_set

    def source(self, name: str) -> str:
        """The source of this setting, as a person would look for it; its variable for an unset one.

        ``REDIS_URL``, ``BRIDGE_REDIS_URL_FILE``, or ``config/sidekiq.yml:12:production.concurrency``.
        """
        return self._sources.get(name, f"BRIDGE_{name.upper()}")

    @property
    def file(self) -> Described:
        """Which section of ``config`` is in force, and what the file says in vain."""
        return self._file
