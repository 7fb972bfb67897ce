"""One connection to Redis for a process that must be small: a socket and hiredis.

redis-py takes 15 to 20 MB, asyncio and its own telemetry among them. Here is what the keeper of the lease
needs of it, with the same outcome: TLS, users, a database, Sentinel, time limits, and a connection that is
made again.
"""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Any

import hiredis

from bridge import errors
from bridge.redis.encoding import packed
from bridge.redis.outage_codes import tells_of_outage

if TYPE_CHECKING:
    from bridge.redis.address import RedisAddress

Word = str | int | float | bytes
CLIENT_NAME = "sidekiq-bridge"
READ_SIZE = 65536


class MinimalRedis:
    """Sends one command after the other. For one thread."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._link: _Link | None = None

    def call(self, *words: Word) -> Any:
        """Send a command and read its answer.

        Raises:
            StoreUnavailable: Redis cannot answer now; whether the command was carried out is unknown.
            StoreError: Redis refused it.
        """
        try:
            answer = self._ready().ask(*words)
        except (OSError, EOFError, hiredis.ProtocolError, UnicodeError) as error:
            self.close()
            raise errors.StoreUnavailable(str(error) or type(error).__name__) from error
        if isinstance(answer, hiredis.ReplyError):
            raise self._refused(str(answer))
        return answer

    def run(self, script: tuple[str, str], keys: list[str], *args: Word) -> Any:
        """Run a script, given as (SHA1, text); taught where Redis does not know it. Raises as ``call``."""
        sha, text = script
        words = (sha, len(keys), *keys, *args)
        try:
            return self.call("EVALSHA", *words)
        except errors.StoreError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        try:
            self.call("SCRIPT", "LOAD", text)
        except errors.StoreUnavailable:
            raise
        except errors.StoreError:  # a managed Redis may refuse it
            return self.call("EVAL", text, *words[1:])
        return self.call("EVALSHA", *words)

    def close(self) -> None:
        """Hang up; the next command connects again."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _refused(self, text: str) -> errors.StoreError:
        if "READONLY" in text:
            self.close()  # a master no more: behind Sentinels another one is asked for
        code, _, rest = text.partition(" ")
        too_many = rest.startswith("max number of clients reached")
        if too_many or tells_of_outage(code, rest if code == "ERR" else text):
            return errors.StoreUnavailable(text)
        return errors.StoreError(text)

    def _ready(self) -> _Link:
        if self._link is not None and self._link.stale:
            self.close()  # by the other side, since the last command
        if self._link is None:
            self._link = self._connected()
        return self._link

    def _connected(self) -> _Link:
        address = self._address
        where = self._master() if address.sentinels else (address.host, address.port)
        link = _Link(address.path or where, address.connect_timeout_seconds, address.timeout_seconds)
        try:
            if address.tls:
                link.encrypt(address, where[0])
            self._introduce(link)
        except BaseException:
            link.close()
            raise
        return link

    def _introduce(self, link: _Link) -> None:
        address = self._address
        commands = _authentication(address.username, address.password)
        if address.database:
            commands.append(("SELECT", address.database))
        for command in commands:
            answer = link.ask(*command)
            if isinstance(answer, hiredis.ReplyError):
                raise self._refused(str(answer))
        link.ask("CLIENT", "SETNAME", CLIENT_NAME)  # a managed Redis may refuse it

    def _master(self) -> tuple[str, int]:
        """Who is the master now, by the first sentinel that knows one that is up."""
        for host, port in self._address.sentinels:
            try:
                found = self._ask_sentinel((host, port))
            except (OSError, EOFError, hiredis.ProtocolError):
                continue
            if found is not None:
                return found
        raise ConnectionError(f"no sentinel names a master {self._address.master!r}")

    def _ask_sentinel(self, where: tuple[str, int]) -> tuple[str, int] | None:
        seconds = self._address.connect_timeout_seconds
        link = _Link(where, seconds, seconds)
        try:
            address = self._address
            if address.tls:
                link.encrypt(address, where[0])
            for words in _authentication(address.sentinel_username, address.sentinel_password):
                link.ask(*words)  # a refusal shows in the next answer
            answer = link.ask("SENTINEL", "MASTER", address.master)
        finally:
            link.close()
        if not isinstance(answer, list):
            return None  # it knows no such master
        told = {key.decode(): value.decode() for key, value in zip(answer[::2], answer[1::2], strict=False)}
        flags = told.get("flags", "").split(",")
        if "master" not in flags or "s_down" in flags or "o_down" in flags:
            return None
        return told["ip"], int(told["port"])


def _authentication(username: str | None, password: str | None) -> list[tuple[Word, ...]]:
    if username:
        return [("AUTH", username, password or "")]
    return [("AUTH", password)] if password else []


class _Link:
    """A socket that speaks RESP. Raises OSError, EOFError or hiredis.ProtocolError when it is cut."""

    def __init__(self, where: tuple[str, int] | str, connect_seconds: float, seconds: float) -> None:
        self._socket = _connected(where, connect_seconds)
        self._seconds = seconds
        self._reader = hiredis.Reader()
        self._socket.settimeout(seconds)

    def encrypt(self, address: RedisAddress, host: str) -> None:
        """Go on over TLS, always verified. Files are read now: they may have been renewed."""
        import ssl  # 2 MB that a connection in clear does not need

        context = ssl.create_default_context()
        if address.cert or address.key:
            context.load_cert_chain(address.cert or "", address.key)
        if address.ca:
            context.load_verify_locations(address.ca)
        self._socket = context.wrap_socket(self._socket, server_hostname=host)

    @property
    def stale(self) -> bool:
        """Whether bytes came without a command: most likely the end of the connection."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def ask(self, *words: Word) -> Any:
        """Send a command; its answer, or the hiredis.ReplyError that Redis refused it with."""
        self._socket.sendall(packed(words))
        while (answer := self._reader.gets()) is False:
            chunk = self._socket.recv(READ_SIZE)
            if not chunk:
                raise EOFError("Redis closed the connection")
            self._reader.feed(chunk)
        return answer

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def _connected(where: tuple[str, int] | str, seconds: float) -> socket.socket:
    if isinstance(where, str):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(seconds)
        try:
            made.connect(where)
        except BaseException:
            made.close()
            raise
        return made
    made = socket.create_connection(where, seconds)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return made
