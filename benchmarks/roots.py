"""The place of a Ruby: this system, or a Debian change-root with another Sidekiq."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT

MATRIX = "BRIDGE_MATRIX"
#: Debian releases, as for ``scripts/conformance``, and ``system``.
RELEASES = "BRIDGE_RELEASES"
_VERSIONS = 'require "sidekiq/version"; puts Sidekiq::VERSION, RUBY_VERSION'


@dataclass(frozen=True)
class RubyRoot:
    """One Ruby with its Sidekiq; ``path`` is empty for the system's own."""

    path: str
    sidekiq: str
    ruby: str

    def command(self, folder: Path, *words: str) -> list[str]:
        """The command line that runs ``words`` there; the checkout and ``folder`` have their usual names."""
        if not self.path:
            return [*words]
        return [str(ROOT / "benchmarks/apps/in_root.sh"), self.path, str(ROOT), str(folder), *words]

    def forget(self, folder: Path) -> None:
        """Remove the empty directory where the folder of a run was mounted."""
        place = Path(f"{self.path}{folder}")
        if self.path and place.is_dir():
            place.rmdir()

    @property
    def short(self) -> str:
        """``8.1``."""
        return ".".join(self.sidekiq.split(".")[:2])


def matrix_folder() -> Path:
    """The folder of the change-roots: the same place and variable as ``scripts/conformance``."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get(MATRIX) or Path(cache) / "sidekiq-bridge/matrix")


def find_roots() -> tuple[list[RubyRoot], list[str]]:
    """The Rubies there are, oldest Sidekiq first, and a sentence for each one that is left out."""
    found, notes = [], []
    for release in (os.environ.get(RELEASES) or "system trixie sid").split():
        root, problem = _system() if release == "system" else _built(release)
        if root is None:
            notes.append(f"Sidekiq of {release} is left out: {problem}")
        else:
            found.append(root)
    return sorted(found, key=lambda root: [int(part) for part in root.sidekiq.split(".")]), notes


def _system() -> tuple[RubyRoot | None, str]:
    return _ask("", []), "it is not installed"


def _built(release: str) -> tuple[RubyRoot | None, str]:
    path = matrix_folder() / release
    problem = _problem(release)
    return (None, problem) if problem else (_ask(str(path), ["chroot", str(path)]), f"{path} has none")


def _problem(release: str) -> str:
    if os.geteuid():
        return "change-roots need root"
    built = subprocess.run([ROOT / "scripts/matrix", release], capture_output=True, text=True, check=False)
    return (
        ""
        if built.returncode == 0
        else (built.stderr or built.stdout).strip()[-300:] or "it could not be built"
    )


def _ask(path: str, enter: Sequence[str]) -> RubyRoot | None:
    command = [*enter, "ruby", "-e", _VERSIONS]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no Ruby at all
        return None
    words = asked.stdout.split()
    return RubyRoot(path, *words) if asked.returncode == 0 and len(words) == 2 else None
