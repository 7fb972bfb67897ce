"""Known vulnerabilities of the locked packages, by pip-audit.

Without a network, or with an index that serves packages only, no audit takes place. The script says so and
passes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The extras hold the runtime as well.
LOCKS = (ROOT / "requirements/extras.txt",)
SECONDS = 45


@dataclass(frozen=True)
class Audit:
    """The result: lines about vulnerabilities, the number of audited packages, the number of the others."""

    found: tuple[str, ...]
    looked_at: int
    unknown: int

    @classmethod
    def read(cls, text: str) -> Audit:
        """From pip-audit's JSON. Raises ValueError, KeyError or TypeError where it is none."""
        packages = json.loads(text)["dependencies"]
        known = [package for package in packages if "vulns" in package]
        found = tuple(
            f"{package['name']} {package['version']}: {flaw['id']}, corrected in {_versions(flaw)}"
            for package in known
            for flaw in package["vulns"]
        )
        return cls(found, len(known), len(packages) - len(known))


def _versions(flaw: dict[str, list[str]]) -> str:
    return ", ".join(flaw.get("fix_versions") or ["no release yet"])


def main() -> int:
    """Audit each lock once a day. Returns the exit status."""
    return max([_audit(lock) for lock in LOCKS])


def _audit(lock: Path) -> int:
    mark = _mark(lock)
    if mark.exists():
        print(f"{mark.read_text()} (today, before)")
        return 0
    audit = _ask(lock)
    said = f"{lock.name}: {_sentence(audit)}"
    print(said)
    if audit and audit.found:
        print(*audit.found, sep="\n")
        return 1
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(said)
    return 0


def _sentence(audit: Audit | None) -> str:
    if audit is None or not audit.looked_at:
        return "NOT AUDITED, no service for vulnerabilities could be asked from here"
    return f"{audit.looked_at} packages audited, {audit.unknown} unknown to the service"


def _ask(lock: Path) -> Audit | None:
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip"]
    command += ["--require-hashes", "--format", "json", "--progress-spinner", "off", "--timeout", "3"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT)
        return Audit.read(answer.stdout)
    except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None  # without a service it ends in many ways, some of them long


def _mark(lock: Path) -> Path:
    """Stands for an audit of this lock on this day."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    return ROOT / "tmp" / f"audited-{digest}-{time.strftime('%Y%m%d')}"


if __name__ == "__main__":
    sys.exit(main())
