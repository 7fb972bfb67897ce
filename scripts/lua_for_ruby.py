"""The gem's copies of the Lua scripts, made from the one place that has them.

Both sides send Redis the same text, so Redis keeps one script for both.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bridge.sidekiq.store import lua

PLACE = Path(__file__).resolve().parents[1] / "sidecar/lib/sidekiq_bridge/scripts/lua"

#: Scripts that the gem runs as they are.
SCRIPTS: tuple[str, ...] = (
    *("batch_forget", "batch_push", "batches_prune"),
    *("limit_advance", "limit_renew", "limit_take"),
    *("moves_change", "result_mark"),
)
#: Effects of a settlement, which the gem runs alone: a stock Sidekiq process settles by itself.
EFFECTS: tuple[str, ...] = ("batch_job", "limit_free", "link_push", "result_broken", "result_settled")
#: An effect asks for the result of the settlement: here there is none, and the effect applies.
SETTLED = "local settled = 1\n"


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` compare them. Returns the exit status."""
    wanted, found = texts(), {path.name: path.read_text(encoding="utf-8") for path in PLACE.glob("*.lua")}
    if found == wanted:
        return 0
    if "--check" in arguments:
        names = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
        print(f"{PLACE}: {', '.join(names)} out of date; run scripts/lua-for-ruby", file=sys.stderr)
        return 1
    PLACE.mkdir(parents=True, exist_ok=True)
    for name in found.keys() - wanted.keys():
        (PLACE / name).unlink()
    for name, text in wanted.items():
        (PLACE / name).write_text(text, encoding="utf-8")
    return 0


def texts() -> dict[str, str]:
    """File name to text. The gem drops the newline at the end, which Python's text does not have."""
    whole = {name: lua.load(name).text.decode() for name in (*SCRIPTS, *EFFECTS)}
    return {f"{name}.lua": (SETTLED if name in EFFECTS else "") + text + "\n" for name, text in whole.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
