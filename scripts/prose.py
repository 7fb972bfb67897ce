"""Counts wording that hides the actor of a sentence, in code, documents, messages and alert texts.

``python -m scripts.prose [PATH ...]`` prints each place and exits 1 where there are any. The rule: subject
first, one named actor, active voice, present tense, at most 20 words (see CONTRIBUTING.md).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOTS = (
    "bridge", "sidecar/lib", "sidecar/bin", "sidecar/README.md", "docs", "deploy", "scripts", "benchmarks",
    "rails_app", "README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "docker-compose.yml",
    "mkdocs.yml", "celeryconfig.py",
)  # fmt: skip
ENDINGS = frozenset(
    [".py", ".rb", ".rake", ".md", ".lua", ".yml", ".yaml", ".sh", ".conf", ".service", ".json", ""]
)

#: Name of the pattern, the pattern, and what to write instead.
PATTERNS = (
    ("no actor", re.compile(r"\b(?:[Ss]omebody|[Nn]obody|[Ww]hoever)\b"), "name the actor"),
    ("for ever", re.compile(r"\b[Ff]or ever\b"), "permanently, or until what"),
    ("is no", re.compile(r"\b(?:is|are|was|were) no (?!longer\b|more\b)[a-z]"), "is not a"),
    ("so long", re.compile(r"\b[Ss]o (?:long|many|much)\b"), "name the time or the number"),
    ("stands", re.compile(r"\bstands?\b(?! for\b)"), "is, is stored, is written"),
    (
        "fronted",
        re.compile(r"(?:^|[.;!?:] |\"\"\"|[#*|] |- )(?:Where|What) (?!to )[a-z][^?]*$"),
        "subject first",
    ),
    (
        "archaic",
        re.compile(r"\b(?:anew|in peace|dead hands|hush|courier|outbox)\b"),
        "again, orphaned, quiet",
    ),
)

#: Places that may keep such words: a file, a part of the line, and why.
EXCEPTIONS = (
    ("scripts/prose.py", "", "the patterns themselves"),
    *(
        (f"bridge/sidekiq/store/lua/{name}.lua", "redis.error_reply", "the body of a script stays as it is")
        for name in ("move_queued_to_dead", "move_to_dead", "schedule_own", "schedule_promote",
                     "settle_promoted", "settle_to_set")
    ),
)  # fmt: skip


class Place(NamedTuple):
    """One line with such wording."""

    path: str
    line: int
    name: str
    instead: str
    text: str


def main(arguments: Sequence[str]) -> int:
    """Print every place; 1 where there are any."""
    found = [place for path in tracked(arguments or ROOTS) for place in places(path)]
    for place in found:
        print(f"{place.path}:{place.line}: {place.name} ({place.instead}): {place.text.strip()[:110]}")
    if found:
        print(f"{len(found)} lines to reword")
    return 1 if found else 0


def tracked(roots: Sequence[str]) -> list[str]:
    """The text files of git below these roots."""
    listed = subprocess.run(["git", "ls-files", "--", *roots], capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if Path(path).suffix in ENDINGS]


def places(path: str) -> Iterator[Place]:
    """Each line of a file that one of the patterns finds."""
    for number, line in enumerate(_lines(path), 1):
        is_heading = path.endswith(".md") and line.startswith("#")
        for name, pattern, instead in PATTERNS:
            if name == "fronted" and is_heading:
                continue
            if pattern.search(line) and not _is_excepted(path, line):
                yield Place(path, number, name, instead, line)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, FileNotFoundError):
        return []


def _is_excepted(path: str, line: str) -> bool:
    return any(path == place and part in line for place, part, _ in EXCEPTIONS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
