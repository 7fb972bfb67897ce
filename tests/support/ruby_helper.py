"""The real gem, to push with and to read with."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.processes import ROOT, Process
from tests.support.ruby_root import RubyRoot, Shared

ANSWER_SECONDS = 30.0


class RubyFailed(AssertionError):
    """Ruby raised; the text is its message and backtrace."""


@dataclass(frozen=True)
class Page:
    """One answer of Sidekiq's Web UI."""

    status: int
    body: str
    location: str | None

    def assert_fine(self) -> Page:
        """200, or the redirect after a button."""
        assert self.status in (200, 302, 303), f"{self.status}: {self.body[:2000]}"
        return self


class RubyHelper:
    """A long-lived Ruby process with Sidekiq's client, API and Web UI on one Redis."""

    def __init__(self, root: RubyRoot, place: Shared, redis_url: str, name: str = "ruby-helper") -> None:
        script = ROOT / "tests/support/ruby/helper.rb"
        self.process = Process(
            name,
            root.command("env", "-C", ROOT, "ruby", script),
            place.path,
            env={
                "REDIS_URL": redis_url,
                "TEST_LEDGER": str(place.path / "ledger"),
                "RACK_ENV": "production",
                "HOME": "/tmp",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._left = b""
        self.version: str = self._read()

    def call(self, method: str, /, **arguments: Any) -> Any:
        """Call one method of ``Helper`` in helper.rb."""
        pipe = self.process.popen.stdin
        assert pipe is not None
        pipe.write(json.dumps({"call": method, "with": arguments}).encode() + b"\n")
        pipe.flush()
        return self._read()

    # -- the client

    def push(self, job_class: str, *args: Any, **options: Any) -> str:
        """Sidekiq::Client.push; gives the jid."""
        jid: str = self.call("push", item={"class": job_class, "args": list(args), **options})
        return jid

    def perform(self, job_class: str, *args: Any, **options: Any) -> str:
        """``Klass.set(options).perform_async(*args)``, with the class's own options."""
        jid: str = self.call("perform", job=job_class, args=list(args), set=options)
        return jid

    # -- the API

    def set(self, name: str) -> list[dict[str, Any]]:
        """Entries of ``retry``, ``dead`` or ``schedule`` as Sidekiq's API reads them."""
        entries: list[dict[str, Any]] = self.call("set", name=name)
        return entries

    def queue(self, name: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.call("queue", name=name)
        return entries

    def evaluate(self, code: str) -> Any:
        """Any Ruby expression whose value JSON can hold."""
        return self.call("evaluate", code=code)

    # -- the Web UI

    def get(self, path: str) -> Page:
        return Page(**self.call("get", path=path))

    def post(self, path: str, page: str, params: Mapping[str, Any] | None = None) -> Page:
        """Fill in and send a form that stands on ``page``."""
        return Page(**self.call("post", path=path, page=page, params=dict(params or {}))).assert_fine()

    def stop(self) -> None:
        pipe = self.process.popen.stdin
        if pipe is not None:
            pipe.close()
        self.process.stop(5)

    def _read(self) -> Any:
        answer = json.loads(self._line())
        if "error" in answer:
            raise RubyFailed(answer["error"])
        return answer["ok"]

    def _line(self) -> bytes:
        pipe = self.process.popen.stdout
        assert pipe is not None
        while b"\n" not in self._left:
            readable, _, _ = select.select([pipe], [], [], ANSWER_SECONDS)
            chunk = os.read(pipe.fileno(), 1 << 20) if readable else b""
            if not chunk:
                raise RubyFailed(f"no answer from the Ruby helper:\n{self.process.log[-4000:]}")
            self._left += chunk
        line, _, self._left = self._left.partition(b"\n")
        return line
