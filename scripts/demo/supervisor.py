"""Starts services in order, keeps their output, stops them in reverse order.

Running a command and prefixing its lines is honcho's; its own Manager starts and stops
everything at once, and here Redis has to be first up and last down.
"""

import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join

from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Process

from scripts.demo.errors import DemoError

POLL_SECONDS = 0.1
TAIL_LINES = 30
START_SECONDS = 10.0


@dataclass(frozen=True)
class Service:
    """A command, what it needs, and how to see that it is ready."""

    name: str
    command: list[str]
    ready: Callable[[], bool]
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    stop_seconds: float = 10.0


class Supervisor:
    """Keeps the services of one demo."""

    def __init__(self, logs: Path, printer: Printer) -> None:
        self._logs = logs
        self._printer = printer
        self._events: queue.Queue[Message] = queue.Queue()
        self._colours = get_colours()
        self._running: dict[str, Running] = {}
        self.shown: set[str] = set()
        threading.Thread(target=self._read_events, daemon=True).start()

    def start(self, service: Service) -> None:
        running = Running(service, self._logs / f"{service.name}.log")
        self._running[service.name] = running
        running.start(next(self._colours), self._events)

    def wait_until_ready(self, *services: Service, within_seconds: float = 60.0) -> None:
        deadline = time.monotonic() + within_seconds
        waiting = list(services)
        while waiting := [service for service in waiting if not service.ready()]:
            self.check()
            if time.monotonic() > deadline:
                names = ", ".join(service.name for service in waiting)
                raise DemoError(
                    f"not ready after {within_seconds:.0f} s: {names}\n{self._tail(waiting[0].name)}"
                )
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raise when a service has ended by itself."""
        for name, running in self._running.items():
            if running.ended.is_set():
                raise DemoError(f"{name} ended by itself (exit code {running.exit_code})\n{self._tail(name)}")

    def stop(self) -> bool:
        """Stop the services, the last one started first. False if one had to be killed."""
        ended_in_time = [running.stop() for running in reversed(self._running.values())]
        return all(ended_in_time)

    def kill(self) -> None:
        for running in self._running.values():
            running.signal_group(signal.SIGKILL)

    def _read_events(self) -> None:
        while True:
            message = self._events.get()
            self._running[message.name].note(message)
            if message.type == "line" and message.name in self.shown:
                self._printer.write(message)

    def _tail(self, name: str) -> str:
        running = self._running[name]
        lines = [f"  {line}" for line in running.tail]
        return "\n".join([f"Its last lines ({running.log_path}):", *lines])


class Running:
    """One started service."""

    def __init__(self, service: Service, log_path: Path) -> None:
        self.service = service
        self.log_path = log_path
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.started = threading.Event()
        self.ended = threading.Event()
        self.exit_code: int | None = None
        self._pid = 0
        self._log = log_path.open("wb")

    def start(self, colour: str, events: "queue.Queue[Message]") -> None:
        service = self.service
        # If this process is killed outright, the kernel stops the service.
        command = "exec " + join(["setpriv", "--pdeathsig", "TERM", "--", *service.command])
        process = Process(command, name=service.name, colour=colour, env=service.env, cwd=service.cwd)
        # The death signal goes off when the *thread* that started the child ends: this one lives as long.
        threading.Thread(target=process.run, args=(events,), daemon=True).start()
        if not self.started.wait(START_SECONDS):
            raise DemoError(f"{service.name} could not be started: {command}")

    def note(self, message: Message) -> None:
        if message.type == "start":
            self._pid = message.data["pid"]
            self.started.set()
        elif message.type == "stop":
            self.exit_code = message.data["returncode"]
            self._log.close()
            self.ended.set()
        else:
            self._log.write(message.data)
            self._log.flush()
            self.tail.append(message.data.decode("utf-8", "replace").rstrip())

    def stop(self) -> bool:
        """Whether it ended on TERM, in its time."""
        if self.ended.is_set():
            return True
        # To the process alone: it knows how to stop its children.
        os.kill(self._pid, signal.SIGTERM)
        if self.ended.wait(self.service.stop_seconds):
            return True
        print(
            f"{self.service.name} did not stop in {self.service.stop_seconds:.0f} s: killed", file=sys.stderr
        )
        self.signal_group(signal.SIGKILL)
        self.ended.wait(self.service.stop_seconds)
        return False

    def signal_group(self, number: signal.Signals) -> None:
        if not self.ended.is_set():
            os.killpg(self._pid, number)
