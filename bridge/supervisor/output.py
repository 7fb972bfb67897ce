"""One log for all processes: each line passes through, and tells which process wrote it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time

_CHUNK = 65_536
#: A longer line is cut: a process that never ends its line must not fill the memory.
_LONGEST = 1 << 20
_DRAIN_SECONDS = 2.0


class Output:
    """Copies the lines of many pipes to stdout and stderr, in threads: a slow reader delays no signal."""

    def __init__(self, stdout: int = 1, stderr: int = 2, *, as_json: bool) -> None:
        self._as_json = as_json
        self._locks = {fd: threading.Lock() for fd in (stdout, stderr)}
        self.stdout, self.stderr = stdout, stderr
        self._threads: list[threading.Thread] = []
        reader, self._own = os.pipe()
        os.set_blocking(self._own, False)
        self.copy(reader, "", stdout)

    def say(self, message: str, level: str = "INFO") -> None:
        """A line of the supervisor itself."""
        now = time.time()
        when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}Z"
        if self._as_json:
            line = json.dumps({"process": "up", "ts": when, "pid": os.getpid(), "lvl": level, "msg": message})
        else:
            line = f"up | {level:5} {when} pid={os.getpid()}: {message}"
        with contextlib.suppress(BlockingIOError):  # the reader of the log has stopped reading
            os.write(self._own, line.encode(errors="replace") + b"\n")

    def copy(self, reader: int, name: str, target: int) -> Tail:
        """Copy a pipe until its end. Gives the place where its last line is kept."""
        tail = Tail()
        tail.thread = threading.Thread(target=self._copy, args=(reader, name, target, tail), daemon=True)
        tail.thread.start()
        self._threads = [thread for thread in self._threads if thread.is_alive()] + [tail.thread]
        return tail

    def close(self) -> None:
        """Wait until all lines are written."""
        os.close(self._own)
        deadline = time.monotonic() + _DRAIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _copy(self, reader: int, name: str, target: int, tail: Tail) -> None:
        rest = b""
        while chunk := os.read(reader, _CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LONGEST:
                lines, rest = [*lines, rest], b""
            self._pass_on(lines, name, target, tail)
        self._pass_on([rest] if rest else [], name, target, tail)
        os.close(reader)

    def _pass_on(self, lines: list[bytes], name: str, target: int, tail: Tail) -> None:
        if lines:
            tail.line = next((line for line in reversed(lines) if line.strip()), tail.line)
            self._write(target, b"".join(marked(line, name) + b"\n" for line in lines))

    def _write(self, target: int, text: bytes) -> None:
        # Without a reader of the log the processes go on.
        with self._locks[target], contextlib.suppress(OSError):
            while text:
                text = text[os.write(target, text) :]


class Tail:
    """The last line of a pipe."""

    thread: threading.Thread

    def __init__(self) -> None:
        self.line = b""

    def text(self, seconds: float = 1.0) -> str:
        """The last line, once the pipe has ended. A grandchild may hold it open."""
        self.thread.join(seconds)
        return self.line.decode(errors="replace").strip()


def marked(line: bytes, name: str) -> bytes:
    """The line with the name of its process: a field in a JSON object, else in front of the text."""
    if not name:
        return line
    if line.startswith(b'{"'):
        return b'{"process": "%b", ' % name.encode() + line[1:]
    return b"%b | %b" % (name.encode(), line)
