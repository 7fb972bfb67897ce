"""Where Ruby lives: this system, or a change-root with another Sidekiq (same loopback, same checkout)."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support.processes import Process

#: Names the change-root of the suite; unset, the system's own Ruby is used.
VARIABLE = "TEST_RUBY_ROOT"


@dataclass(frozen=True)
class Shared:
    """A directory that both sides know by the same ``path``."""

    path: Path
    target: Path

    def remove(self) -> None:
        if self.path.is_symlink():
            self.path.unlink()
        shutil.rmtree(self.target, ignore_errors=True)


@dataclass(frozen=True)
class RubyRoot:
    """One Ruby with its gems."""

    path: Path

    @classmethod
    def from_environment(cls) -> RubyRoot:
        return cls(Path(os.environ.get(VARIABLE, "/")))

    @property
    def is_system(self) -> bool:
        return self.path == Path("/")

    def command(self, *words: str | Path) -> list[str]:
        """The command line that runs ``words`` there, in the checkout's directory."""
        plain = [str(word) for word in words]
        return plain if self.is_system else ["chroot", str(self.path), *plain]

    def make_directory(self) -> Shared:
        """A new directory; its name is short, because Unix sockets stand in it."""
        if self.is_system:
            path = Path(tempfile.mkdtemp(prefix="sb-"))
            return Shared(path, path)
        target = Path(tempfile.mkdtemp(prefix="sb-", dir=self.path / "tmp"))
        path = Path("/tmp") / target.name
        path.symlink_to(target)
        return Shared(path, target)

    @cached_property
    def sidekiq(self) -> tuple[int, ...]:
        """Sidekiq's version: (6, 4, 1)."""
        place = self.make_directory()
        try:
            code = 'require "sidekiq/version"; puts Sidekiq::VERSION'
            asked = Process("version", self.command("ruby", "-e", code), place.path)
            status = asked.wait(30)
            assert status == 0, asked.log
            return tuple(int(part) for part in asked.log.strip().splitlines()[-1].split("."))
        finally:
            asked.kill()
            place.remove()
