"""The place of one run of the demo: directories, addresses, secrets."""

import fcntl
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from scripts.demo import environment, probes
from scripts.demo.errors import DemoError

ROOT = Path(__file__).resolve().parents[2]
RAILS_APP = ROOT / "rails_app"
FLOWER_USER = "demo"
QUEUES = "critical,default,mailers,low,reports"


@dataclass(frozen=True)
class Place:
    """Everything the services have to agree on."""

    directory: Path
    socket_directory: Path
    redis_url: str
    redis_port: int | None  # None: --redis named one
    web_port: int
    flower_port: int
    health_port: int
    sidecar_secret: str
    flower_password: str

    @property
    def database(self) -> Path:
        return self.directory / "demo.sqlite3"

    @property
    def logs(self) -> Path:
        return self.directory / "log"

    @property
    def sidecar_socket(self) -> Path:
        return self.socket_directory / "sidecar.sock"

    @property
    def web_url(self) -> str:
        return f"http://{probes.LOOPBACK}:{self.web_port}"

    @property
    def flower_url(self) -> str:
        return f"http://{probes.LOOPBACK}:{self.flower_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://{probes.LOOPBACK}:{self.health_port}/metrics"

    @property
    def by_hand(self) -> Path:
        """The file to `source` for commands by hand."""
        return self.directory / "env.sh"

    @property
    def redis_directory(self) -> Path:
        return self.directory / "redis"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of every service."""
        return environment.kept() | self.settings

    @property
    def settings(self) -> dict[str, str]:
        """The part of it that is the demo's own."""
        return {
            "BRIDGE_DEMO_DB": str(self.database),
            "BRIDGE_REDIS_URL": self.redis_url,
            "DEMO_MAIL_DIR": str(self.directory / "mails"),
            "PYTHONUNBUFFERED": "1",
            "RAILS_ENV": "development",
            "REDIS_URL": self.redis_url,
        }

    @property
    def bridge_settings(self) -> dict[str, str]:
        """Further variables for worker, Flower, beat and commands by hand."""
        return {
            "BRIDGE_HEALTH_BIND": f"{probes.LOOPBACK}:{self.health_port}",
            "BRIDGE_IMPORTS": "demo_tasks",
            "BRIDGE_LOG_FORMAT": "text",
            "BRIDGE_QUEUES": QUEUES,
            "BRIDGE_SIDECAR_SECRET": self.sidecar_secret,
            "BRIDGE_SIDECAR_URL": f"unix://{self.sidecar_socket}",
            "PYTHONPATH": f"{ROOT}:{RAILS_APP / 'python'}",
        }


def make(directory: Path, sockets: Path, redis_url: str | None) -> Place:
    """A place with free ports; `sockets` is a fresh private directory with a short path."""
    redis_port = None if redis_url else probes.free_port(6390)
    return Place(
        directory=directory,
        socket_directory=sockets,
        redis_url=redis_url or f"redis://{probes.LOOPBACK}:{redis_port}/0",
        redis_port=redis_port,
        web_port=probes.free_port(3000),
        flower_port=probes.free_port(5555),
        health_port=probes.free_port(9394),
        sidecar_secret=secrets.token_hex(32),
        flower_password=secrets.token_urlsafe(9),
    )


def claim(directory: Path) -> TextIO:
    """Make the directory this process's own, for as long as the file that it returns is open.

    Raises:
        DemoError: another demo runs in it. Two would write into one database and one Redis's files.
    """
    for part in ("log", "redis", "mails"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    lock = (directory / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise DemoError(
            f"another demo runs in {directory}: stop it, or give this one a place with --directory DIR"
        ) from None
    return lock


def socket_directory() -> tempfile.TemporaryDirectory[str]:
    """Unix sockets may have no long path: neither the checkout's nor TMPDIR is known to be short."""
    return tempfile.TemporaryDirectory(prefix="bridge-demo-", dir="/tmp")  # nosec B108 (mode 0700)
