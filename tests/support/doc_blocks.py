"""The blocks of the documents, and a fresh directory in which their commands are run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import ROOT, Process, clean_environment

DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "sidecar/README.md", "benchmarks/README.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: Commands that do not end by themselves, and what they say once they are ready.
SERVERS = {
    "bin/sidecar": "Sidecar ready",
    "exec sidecar": "Sidecar ready",
    "bridge worker": "ready",
    "beat": "beat",
}


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(*documents: str) -> list[Block]:
    """All blocks of these documents, in their order."""
    found = []
    for document in documents or DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        found += [
            Block(document, text.count("\n", 0, match.start()) + 1, match[1], match[2])
            for match in _FENCE.finditer(text)
        ]
    return found


def tracked_files(target: Path) -> None:
    """Copy the checkout as a clone would have it."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    for name in filter(None, names):
        source, copy = ROOT / name.decode(), target / name.decode()
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


@dataclass
class Terminal:
    """Runs blocks of shell commands in one directory, as a person does in several terminals.

    ``places`` are texts of the documents (addresses, directories) and what stands for them here. The
    exported variables of earlier blocks stay.
    """

    directory: Path
    places: Mapping[str, str]
    settings: Mapping[str, str]
    exports: list[str] = field(default_factory=list)
    servers: dict[str, Process] = field(default_factory=dict)

    def run(self, block: Block) -> None:
        """Run the lines of a block. A server replaces the one that an earlier block started."""
        lines = self.here(block.text).splitlines()
        self.exports += [line for line in lines if line.startswith("export ")]
        commands = [line for line in lines if line.strip() and not line.startswith(("export ", "#"))]
        for command in commands:
            kind = next((word for word in SERVERS if word in command), None)
            if kind:
                self._serve(kind, command, block)
            else:
                self.do(command, block)

    def here(self, text: str) -> str:
        for there, place in self.places.items():
            text = text.replace(there, place)
        return text

    def do(self, command: str, block: Block, typed: str = "", good: tuple[int, ...] = (0,)) -> str:
        """Run one command to its end; returns what it printed."""
        done = subprocess.run(
            ["bash", "-c", "\n".join([*self.exports, command])],
            cwd=self.directory,
            env=self._environment(),
            input=typed,
            capture_output=True,
            text=True,
            timeout=120,
        )
        said = done.stdout + done.stderr
        assert done.returncode in good, f"{block}: {command}\nexit status {done.returncode}\n{said[-3000:]}"
        assert "Traceback" not in said, f"{block}: {command}\n{said[-3000:]}"
        return said

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop(40)
        self.servers.clear()

    def _serve(self, kind: str, command: str, block: Block) -> None:
        if before := self.servers.pop(kind, None):
            before.stop(40)
        name = f"{kind.split('/')[-1].replace(' ', '-')}-{block.line}"
        script = "\n".join([*self.exports, command])
        server = Process(
            name, ["bash", "-c", script], self.directory, env=self._environment(), cwd=self.directory
        )
        self.servers[kind] = server
        server.wait_ready(lambda: SERVERS[kind] in server.log, 60)

    def _environment(self) -> dict[str, str]:
        return clean_environment() | dict(self.settings)


def programs(folder: Path) -> str:
    """A PATH whose `python3` and `bundle` reach no registry: what they would fetch is installed already."""
    folder.mkdir()
    written = {
        "python3": f'exec {shlex.quote(sys.executable)} "$@"',
        "bridge": f'exec {shlex.quote(sys.executable)} -m bridge "$@"',
        "celery": f'exec {shlex.quote(sys.executable)} -m celery "$@"',
        "bundle": '[ "$1" != install ] || set -- install --local\nexec /usr/bin/bundle "$@"',
        "sudo": 'exec "$@"',
    }
    for name, text in written.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return f"{folder}:{clean_environment()['PATH']}"
