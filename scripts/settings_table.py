"""The README's table of settings, made from the one place that defines them."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from bridge.settings import Settings
from bridge.sidekiq.fetch.queues import QueueSet

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN = "<!-- settings: written by scripts/settings-table -->"
END = "<!-- /settings -->"
HEAD = ("| variable | default | meaning | for example |", "| --- | --- | --- | --- |")


def main(arguments: list[str]) -> int:
    """Write the table, or with ``--check`` compare it. Returns the exit status."""
    found = README.read_text(encoding="utf-8")
    wanted = with_table(found)
    if found == wanted:
        return 0
    if "--check" in arguments:
        print("README.md: the table of settings is out of date; run scripts/settings-table", file=sys.stderr)
        return 1
    README.write_text(wanted, encoding="utf-8")
    return 0


def with_table(text: str) -> str:
    """The text with the present table between its markers. Raises ValueError where there are none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def table() -> str:
    """All settings, in the order in which they are defined."""
    return "\n".join([*HEAD, *(_row(name, field) for name, field in Settings.model_fields.items())])


def _row(name: str, field: FieldInfo) -> str:
    default = _default(field.default)
    # An example that only repeats the default says nothing.
    example = next((str(example) for example in field.examples or [] if str(example) != default), "")
    cells = (_code(f"BRIDGE_{name.upper()}"), _code(default), field.description, _code(example))
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _default(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, QueueSet):
        return ",".join(value.names)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
