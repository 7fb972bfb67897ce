"""Small questions to the outside: is it up, is this port free?"""

import http.client
import socket
from pathlib import Path

import redis

LOOPBACK = "127.0.0.1"
PROBE_SECONDS = 2.0


#: Marks of the ports that this process has chosen; the kernel removes them when the process ends.
_marks: list[socket.socket] = []


def free_port(preferred: int) -> int:
    """The preferred port of loopback, or one that is free and that no other demo has chosen."""
    for port in (preferred, 0):
        if port and not _mark(port):
            continue
        with socket.socket() as attempt:
            # As servers do it: a port that was closed a moment ago counts as free.
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind((LOOPBACK, port))
            except OSError:
                continue
            chosen: int = attempt.getsockname()[1]
            return chosen
    raise RuntimeError("this machine has no free port on loopback")


def _mark(port: int) -> bool:
    """Whether this process is the first to choose the port. A chosen port is free until its service listens.

    An abstract Unix socket belongs to a network namespace, as ports do.
    """
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0sidekiq-bridge-demo-{port}")
    except OSError:
        mark.close()
        return False
    _marks.append(mark)
    return True


def redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=PROBE_SECONDS) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def redis_works_in(url: str, directory: Path) -> bool:
    """Whether the Redis that answers is the one that was started in this directory.

    Between the choice of a port and redis-server's bind another server can take the port.
    """
    try:
        with redis.Redis.from_url(url, socket_timeout=PROBE_SECONDS, decode_responses=True) as client:
            found: str = client.config_get("dir")["dir"]
            return Path(found).samefile(directory)
    except (redis.RedisError, OSError, KeyError):
        return False


def http_status(port: int, path: str) -> int:
    """Status of a GET on loopback, 0 where nothing answers."""
    return _status(http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_SECONDS), path)


def http_body(port: int, path: str) -> str:
    """Body of a GET on loopback, empty where it is not answered with 200."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read().decode("utf-8", "replace") if answer.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def unix_http_status(socket_path: Path, path: str) -> int:
    return _status(_UnixConnection(socket_path), path)


def _status(connection: http.client.HTTPConnection, path: str) -> int:
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, socket_path: Path) -> None:
        super().__init__("localhost", timeout=PROBE_SECONDS)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._socket_path))
