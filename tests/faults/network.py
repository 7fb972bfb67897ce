"""Real networks between a worker and its servers: namespaces of the kernel.

The middle one stops forwarding: it drops packets without a word, as a broken router does. TCP on both sides
goes on trying, and delivers what a closed socket had sent when it heals. No proxy in user space does that.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

MAIN = "/proc/sys/net/ipv4/ip_forward"
#: Directions that a link can lose.
TO_SERVER, TO_WORKER = "to the server", "to the worker"


def why_not() -> str | None:
    """Why this machine has no namespaces for us; None where it has."""
    if shutil.which("ip") is None:
        return "no command ip (package iproute2)"
    name = f"sb-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace may be made here: {made.stderr.strip()}"
    try:
        return _why_no_link(name)
    finally:
        ip("netns", "del", name)


def _why_no_link(namespace: str) -> str | None:
    ends = (f"sbt{os.getpid()}", "sbt")
    made = subprocess.run(
        ["ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", namespace],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"no pair of interfaces may be made here: {made.stderr.strip()}" if made.returncode else None


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def sweep() -> None:
    """Remove what a run that was killed has left."""
    found = subprocess.run(["ip", "netns"], check=True, capture_output=True, text=True).stdout
    for name in re.findall(r"^sb-(?:mid|worker)-(\d+)", found, re.MULTILINE):
        if not psutil.pid_exists(int(name)):
            for whole in re.findall(rf"^sb-\w+-{name}\S*", found, re.MULTILINE):
                with contextlib.suppress(subprocess.CalledProcessError):
                    ip("netns", "del", whole)


class Link:
    """A way from the host, where servers listen on ``address``, to the worker's namespace."""

    def __init__(self, worker_namespace: str, number: int, octets: str) -> None:
        tag = f"{os.getpid()}-{number}"
        self.namespace = f"sb-mid-{tag}"
        self._near, self._in, self._out, self._far = (f"sb{end}{tag}" for end in "abcd")
        base = f"{octets}.{number}"
        self.address = f"{base}.1"
        try:
            self._build(worker_namespace, base)
        except BaseException:
            self.remove()
            raise

    def _build(self, worker: str, base: str) -> None:
        mid = self.namespace
        ip("netns", "add", mid)
        ip("link", "add", self._near, "type", "veth", "peer", "name", self._in, "netns", mid)
        ip("-n", mid, "link", "add", self._out, "type", "veth", "peer", "name", self._far, "netns", worker)
        ip("addr", "add", f"{base}.1/30", "dev", self._near)
        ip("-n", mid, "addr", "add", f"{base}.2/30", "dev", self._in)
        ip("-n", mid, "addr", "add", f"{base}.5/30", "dev", self._out)
        ip("-n", worker, "addr", "add", f"{base}.6/30", "dev", self._far)
        for space, name in ((None, self._near), (mid, self._in), (mid, self._out), (worker, self._far)):
            ip(*(("-n", space) if space else ()), "link", "set", name, "up")
        ip("route", "add", f"{base}.4/30", "via", f"{base}.2")
        ip("-n", worker, "route", "add", f"{base}.0/30", "via", f"{base}.5")
        self._write(MAIN, "1")

    @contextlib.contextmanager
    def cut(self, direction: str | None = None) -> Iterator[None]:
        """Nothing gets through meanwhile, or nothing in one direction."""
        arriving = {TO_SERVER: self._out, TO_WORKER: self._in}.get(direction or "")
        switch = f"/proc/sys/net/ipv4/conf/{arriving}/forwarding" if arriving else MAIN
        self._write(switch, "0")
        try:
            yield
        finally:
            self._write(switch, "1")

    def _write(self, file: str, value: str) -> None:
        command = ["ip", "netns", "exec", self.namespace, "sh", "-c", f"echo {value} > {file}"]
        subprocess.run(command, check=True, capture_output=True)

    def remove(self) -> None:
        """With a namespace its interfaces go, and with one end of a pair the other."""
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "del", self.namespace)


class Network:
    """A namespace for workers, and links from it to the host, one for each name."""

    def __init__(self, *names: str) -> None:
        sweep()
        self.namespace = f"sb-worker-{os.getpid()}"
        octets = f"10.{random.SystemRandom().randrange(64, 250)}"  # a run beside this one takes others
        self.links: dict[str, Link] = {}
        ip("netns", "add", self.namespace)
        try:
            ip("-n", self.namespace, "link", "set", "lo", "up")
            for number, name in enumerate(names, 1):
                self.links[name] = Link(self.namespace, number, octets)
        except BaseException:
            self.remove()
            raise

    @property
    def wrapper(self) -> Sequence[str | Path]:
        """What stands before a command that is to run behind the links. The process keeps its pid."""
        return "ip", "netns", "exec", self.namespace

    def remove(self) -> None:
        """Take all of it away."""
        for link in self.links.values():
            link.remove()
        ip("netns", "del", self.namespace)
