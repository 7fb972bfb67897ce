"""A wall clock for processes under test that a test may set, as an administrator or NTP does."""

from __future__ import annotations

import functools
import struct
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("clock_shim.c")


@functools.cache
def shim() -> Path:
    """The library that makes a process believe it; compiled once in a run of the tests."""
    library = Path(tempfile.mkdtemp(prefix="sb-clock-")) / "shim.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


class WallClock:
    """Processes that were started with ``env`` or behind ``wrapper`` see it."""

    def __init__(self, directory: Path, name: str = "clock") -> None:
        self._file = directory / name
        self.set(0.0)

    @property
    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(shim()), "CLOCK_SHIM": str(self._file)}

    @property
    def wrapper(self) -> tuple[str, ...]:
        return ("env", *(f"{name}={value}" for name, value in self.env.items()))

    def set(self, seconds: float) -> None:
        """Be off by this from now on."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=d", seconds))
