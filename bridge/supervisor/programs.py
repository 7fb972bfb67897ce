"""The command lines and environments of the processes that ``bridge up`` starts."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import ConfigurationError
from bridge.settings import Settings

#: Two, so that a sidecar can replace a Puma worker above its memory limit beside a running one.
LEAST_PUMA_WORKERS = 2
_CHECKOUT = Path(__file__).resolve().parents[2] / "sidecar/bin/sidecar"
_HIGHEST_PORT = 65_535
#: sockaddr_un(7), with room for the number of a generation.
_LONGEST_SOCKET = 100


@dataclass(frozen=True, slots=True)
class Program:
    """A command to start, under the name that its lines in the log have."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path | None = None
    is_sidecar: bool = False
    sidecar_url: str | None = None


@dataclass(frozen=True)
class Plan:
    """The processes that the command line and the settings ask for."""

    settings: Settings
    app: str
    workers: int
    options: Sequence[str] = ()
    sidecar: Path | None = None
    puma: int | None = None
    directory: Path = Path()
    """For the sidecar's sockets."""
    on_terminal: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def check(self) -> None:
        """Refuse settings that several processes cannot share. Raises ConfigurationError."""
        settings = self.settings
        if self.workers > 1 and settings.log_file_megabytes is not None:
            raise ConfigurationError(
                f"{settings.source('log_file_megabytes')}: several workers cannot rotate one file. "
                "Remove it and use logrotate, or leave the log on stdout."
            )
        if settings.health_bind.port + self.workers - 1 > _HIGHEST_PORT:
            raise ConfigurationError(
                f"{settings.source('health_bind')}: {self.workers} workers need that many ports from "
                f"{settings.health_bind.port} on. Choose a lower port."
            )
        if self.sidecar is None:
            if self.puma is not None:
                raise ConfigurationError("--puma goes with --sidecar: name the Rails app, or remove --puma")
            return
        if not self.sidecar.exists():
            raise ConfigurationError(f"--sidecar {self.sidecar}: the path does not exist")
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"--sockets {self.directory}: create this directory, and let this user write in it"
            )
        if len(os.fsencode(self.newest_socket.absolute())) > _LONGEST_SOCKET:
            raise ConfigurationError(
                f"--sockets {self.directory}: a Unix socket's path has at most {_LONGEST_SOCKET} bytes. "
                "Choose a shorter one, as in /run"
            )
        for name in ("BRIDGE_SIDECAR_URL", "BRIDGE_SIDECAR_BIND"):
            if name in self.environ or (name.endswith("URL") and settings.says("sidecar_url")):
                raise ConfigurationError(
                    f"--sidecar starts a sidecar on a private socket, and {name} names an address of "
                    f"your own: remove {name}, or remove --sidecar and start the sidecar yourself"
                )
        self._sidecar_command()

    @property
    def newest_socket(self) -> Path:
        """The link to the socket of the newest sidecar, for commands by hand."""
        return self.directory / "sidecar.sock"

    @property
    def sidecar_is_renewable(self) -> bool:
        """Whether a second sidecar can run beside the first one: two cannot share an address for metrics."""
        return "BRIDGE_SIDECAR_METRICS_BIND" not in self.environ

    def worker(self, number: int, sidecar_url: str | None) -> Program:
        """The worker of this number, from 1. Its health port is that of the settings, plus number - 1."""
        named = {"-n", "--hostname"} & {word.split("=")[0] for word in self.options}
        name = [] if named else ["-n", f"worker{number}@%h"]
        bind = self.settings.health_bind
        host = f"[{bind.host}]" if ":" in bind.host else bind.host
        port = bind.port + number - 1 if bind.port else 0
        own = {"BRIDGE_HEALTH_BIND": f"{host}:{port}", "BRIDGE_HEALTH_RETURN": "true"}
        if sidecar_url is not None:
            own["BRIDGE_SIDECAR_URL"] = sidecar_url
        if self.on_terminal and self.settings.log_format == "auto":
            own["BRIDGE_LOG_FORMAT"] = "text"
        return Program(
            f"worker.{number}",
            [sys.executable, "-m", "bridge.worker.command", "-A", self.app, "worker", *name, *self.options],
            {**self.environ, "PYTHONUNBUFFERED": "1", **own},
            sidecar_url=sidecar_url,
        )

    def sidecar_program(self, generation: int) -> Program:
        """The sidecar, on a socket of its own in each generation."""
        assert self.sidecar is not None
        url = f"unix://{self.directory.absolute() / f's{generation}.sock'}"
        command, directory = self._sidecar_command()
        puma = self._puma()
        words = ["--require", str(self.sidecar.resolve()), "--bind", url, "--workers", str(puma)]
        threads = self.environ.get("BRIDGE_SIDECAR_THREADS")
        if threads is None:
            threads = str(math.ceil(self.workers * self._concurrency() / puma))
            words += ["--threads", threads]
        return Program(
            "sidecar",
            [*command, *words],
            # Rails' own variable for the size of the database pool: a connection for each thread.
            {"RAILS_MAX_THREADS": threads, **self.environ},
            directory,
            is_sidecar=True,
            sidecar_url=url,
        )

    def _puma(self) -> int:
        said = self.environ.get("BRIDGE_SIDECAR_WORKERS", "")
        return self.puma or (int(said) if said.isdigit() and int(said) else 0) or self._default_puma()

    def _default_puma(self) -> int:
        return max(LEAST_PUMA_WORKERS, self.workers)

    def _concurrency(self) -> int:
        """Slots of one worker: ``-c``, else the setting, else Celery's default."""
        words = [part for word in self.options for part in word.split("=", 1)]
        for name, value in itertools.pairwise(words):
            if name in ("-c", "--concurrency") and value.isdigit():
                return max(1, int(value))
        short = next((word[2:] for word in words if word[:2] == "-c" and word[2:].isdigit()), "")
        return int(short or self.settings.concurrency or os.cpu_count() or 1)

    def _sidecar_command(self) -> tuple[list[str], Path | None]:
        """The command and its directory: from the app's bundle if it has the gem, else checkout or PATH."""
        assert self.sidecar is not None
        place = self.sidecar if self.sidecar.is_dir() else self.sidecar.parent
        lock = place / "Gemfile.lock"
        if lock.is_file() and "sidekiq-bridge-sidecar" in lock.read_text(errors="replace"):
            return ["bundle", "exec", "sidecar"], place.resolve()
        if _CHECKOUT.is_file():
            return [str(_CHECKOUT)], None
        if (found := shutil.which("sidecar")) is not None:
            return [found], None
        raise ConfigurationError(
            f"no sidecar was found: put the gem sidekiq-bridge-sidecar into {place / 'Gemfile'}, "
            "or the command `sidecar` on PATH"
        )
