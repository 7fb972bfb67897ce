"""The ``bridge`` command: in this process for speed, or as an operator starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from bridge.cli import main
from tests.support import redis_users
from tests.support.processes import ROOT, clean_environment


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def well(self) -> Answer:
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self


@dataclass(frozen=True)
class Bridge:
    """``bridge`` with these settings."""

    settings: Mapping[str, str]

    def __call__(self, *words: str, typed: str | None = None) -> Answer:
        """Run it within this process."""
        gone = dict.fromkeys((*_foreign(), "REDIS_URL", "REDIS_PROVIDER"))
        result = CliRunner(env={**gone, **self._environment()}).invoke(
            main, words, input=typed, prog_name="bridge"
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    def outside(self, *words: str, seconds: float = 60, env: Mapping[str, str] | None = None) -> Answer:
        """Run it as a process of its own, from the checkout."""
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *words],
            env={**clean_environment(), **self._environment(), **(env or {})},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def _environment(self) -> dict[str, str]:
        url = self.settings.get("BRIDGE_REDIS_URL")
        return {**self.settings, **({"BRIDGE_REDIS_URL": redis_users.for_bridge(url)} if url else {})}


def _foreign() -> list[str]:
    return [name for name in os.environ if name.startswith("BRIDGE_")]
