"""Where one run of the demo lives: directories, addresses, secrets."""

import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scripts.demo import probes

ROOT = Path(__file__).resolve().parents[2]
RAILS_APP = ROOT / "rails_app"
FLOWER_USER = "demo"


@dataclass(frozen=True)
class Place:
    """Everything the services have to agree on."""

    directory: Path
    socket_directory: Path
    redis_url: str
    redis_port: int | None  # None: somebody else's Redis
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
    def environment(self) -> dict[str, str]:
        """What every service gets on top of the user's own environment."""
        return {
            **os.environ,
            "BRIDGE_DEMO_DB": str(self.database),
            "BRIDGE_REDIS_URL": self.redis_url,
            "DEMO_MAIL_DIR": str(self.directory / "mails"),
            "PYTHONUNBUFFERED": "1",
            "RAILS_ENV": os.environ.get("RAILS_ENV", "development"),
            "REDIS_URL": self.redis_url,
        }


def make(sockets: Path) -> Place:
    """A place with free ports; `sockets` is a fresh private directory with a short path."""
    directory = Path(os.environ.get("DEMO_DIR", ROOT / "tmp" / "demo")).resolve()
    for part in ("log", "redis", "mails"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    given_redis = os.environ.get("BRIDGE_REDIS_URL") or os.environ.get("REDIS_URL")
    redis_port = None if given_redis else probes.free_port(6390)
    return Place(
        directory=directory,
        socket_directory=sockets,
        redis_url=given_redis or f"redis://{probes.LOOPBACK}:{redis_port}/0",
        redis_port=redis_port,
        web_port=probes.free_port(3000),
        flower_port=probes.free_port(5555),
        health_port=probes.free_port(9394),
        sidecar_secret=secrets.token_hex(32),
        flower_password=secrets.token_urlsafe(9),
    )


def socket_directory() -> tempfile.TemporaryDirectory[str]:
    """Unix sockets may have no long path, and a checkout can be anywhere."""
    return tempfile.TemporaryDirectory(prefix="bridge-demo-")
