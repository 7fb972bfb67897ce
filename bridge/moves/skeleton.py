"""Writes the skeleton of a native task."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.moves.signature import Parameter

#: Fields of ``sidekiq_options`` that a task has too.
OPTIONS = ("queue", "retry", "dead", "backtrace", "tags", "retry_for", "retry_queue")
_MODULES = {"datetime": "datetime", "date": "datetime", "timedelta": "datetime", "Decimal": "decimal"}


def skeleton(
    job_class: str,
    parameters: Sequence[Parameter],
    options: Mapping[str, Any],
    *,
    place: str | None = None,
    todo: Sequence[str] = (),
) -> str:
    """Python source with one task. ``todo``: what the Ruby class does, and the task must do too."""
    own = {name: options[name] for name in OPTIONS if options.get(name) not in (None, {}, [])}
    if own.get("retry") is True:
        del own["retry"]  # Sidekiq's own
    given = [f"name={json.dumps(job_class)}", "bind=True", *([f"sidekiq_options={own!r}"] if own else [])]
    lines = [
        *_imports(parameters),
        "",
        "",
        f"@app.task({', '.join(given)})",
        f"def {_function(job_class)}({', '.join(['self', *_listed(parameters)])}) -> None:",
        f'    """Run {job_class}{f", as {place} does in Ruby" if place else ""}."""',
        *(f"    # TODO {_comment(line)}" for line in todo),
        f"    raise NotImplementedError({json.dumps(job_class)})",
    ]
    return "\n".join(lines) + "\n"


def _listed(parameters: Sequence[Parameter]) -> list[str]:
    """With a bare star in front of keywords, where nothing else ends the positional ones."""
    listed, ended = [], False
    for each in parameters:
        ended = ended or each.prefix == "*"
        if each.keyword and not ended:
            listed.append("*")
            ended = True
        listed.append(str(each))
    return listed


def _imports(parameters: Sequence[Parameter]) -> list[str]:
    used = " ".join(each.annotation for each in parameters)
    wanted: dict[str, list[str]] = {}
    for name, module in (*_MODULES.items(), ("Any", "typing")):
        if re.search(rf"\b{name}\b", used):
            wanted.setdefault(module, []).append(name)
    found = [f"from {module} import {', '.join(sorted(wanted[module]))}" for module in sorted(wanted)]
    return [*found, *([""] if found else []), "from bridge import app"]


def _function(job_class: str) -> str:
    """``Billing::InvoiceJob`` becomes ``invoice_job``."""
    last = re.sub(r"\W", "", job_class.split("::")[-1]) or "task"
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", last).lower()
    return name if name.isascii() and name.isidentifier() else "task"


def _comment(line: str) -> str:
    return " ".join(line.split())
