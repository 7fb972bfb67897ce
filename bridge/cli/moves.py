"""``bridge move`` and ``bridge moves``: how far each class has moved from Ruby to Python."""

from __future__ import annotations

import difflib

import click
from rich.console import RenderableType
from rich.text import Text

from bridge import errors
from bridge.cli import classes, completion, output, plan, spans
from bridge.cli.parts import Parts, pass_parts
from bridge.moves.move import Move, percentage
from bridge.moves.report import MoveReport, MoveRow, SideRow
from bridge.moves.store import MoveStore
from bridge.sidekiq.api.processes import ProcessRow
from bridge.sidekiq.process.rows import MOST_CLASSES

LAST_HELP = "Jobs of each queue and set that --plan reads."
_ONE = "write one of --percent, --back, --shadow, --finish and --plan at a time."


@click.command("move")
@click.argument("job_class", metavar="CLASS", shell_complete=completion.CLASSES)
@click.option("--percent", metavar="NUMBER", help="Run this share of the jids in Python, 0 to 100.")
@click.option("--back", is_flag=True, help="Run the whole class in Ruby, retries too.")
@click.option("--shadow", metavar="NUMBER", help="Repeat this share of the Ruby runs as dry runs in Python.")
@click.option("--finish", is_flag=True, help="End the move: a native task runs all jobs of its class.")
@click.option("--plan", "is_plan", is_flag=True, help="Show what is in the way, and a skeleton of the task.")
@click.option("--last", type=click.IntRange(1, 100_000), default=200, show_default=True, help=LAST_HELP)
@click.option(
    "--guard/--no-guard", default=None, help="Take the class back if it fails more often in Python."
)
@output.json_option
@pass_parts
def move(
    parts: Parts,
    job_class: str,
    percent: str | None,
    back: bool,
    shadow: str | None,
    finish: bool,
    is_plan: bool,
    last: int,
    guard: bool | None,
    as_json: bool,
) -> None:
    """Move CLASS from Ruby to Python, a percent at a time. Every worker heeds it within a second."""
    job_class = job_class.removeprefix("::")
    if is_plan:
        if percent is not None or back or shadow is not None or finish or guard is not None:
            raise errors.ConfigurationError(_ONE)
        plan.show(plan.make(parts, job_class, last), as_json)
        return
    changes = _changes(percent, back, shadow, finish, guard)
    _check(parts, job_class, changes)

    def change(before: Move | None, now_ms: int) -> Move | None:
        if changes is None:
            return None if before is None else before.at(now_ms, percent=100.0, shadow=0.0, is_finished=True)
        started = before or Move(job_class)
        if changes.keys() == {"guard"} and before is None:
            raise errors.ConfigurationError(f"{job_class} does not move: write --percent with a number too.")
        return started.at(now_ms, **changes)

    made = MoveStore(parts.client).change(job_class, change)
    if as_json:
        output.print_json({"job_class": job_class} if made is None or made.is_finished else made)
    else:
        click.echo(_sentence(job_class, made))


def _changes(
    percent: str | None, back: bool, shadow: str | None, finish: bool, guard: bool | None
) -> dict[str, object] | None:
    """The fields of the move that change; None ends the move."""
    wanted = [percent is not None, back, shadow is not None, finish]
    if sum(wanted) > 1:
        raise errors.ConfigurationError(_ONE)
    own: dict[str, object] = {} if guard is None else {"guard": guard}
    if finish:
        return None
    if back:
        return {"percent": 0.0, "shadow": 0.0, "is_back": True, "reason": "", **own}
    if percent is not None:
        return {"percent": _number("--percent", percent), "is_back": False, "reason": "", **own}
    if shadow is not None:
        return {"shadow": _number("--shadow", shadow), **own}
    if not own:
        raise errors.ConfigurationError(
            "write what to do: --percent 5, --shadow 5, --back, --finish or --plan."
        )
    return own


def _number(option: str, text: str) -> float:
    try:
        return percentage(text.removesuffix("%").strip())
    except ValueError:
        raise errors.ConfigurationError(f"{option} {text}: write a number from 0 to 100.") from None


# -- which changes make sense


def _check(parts: Parts, job_class: str, changes: dict[str, object] | None) -> None:
    """Raise ConfigurationError for an unknown class, and for one without a native task."""
    workers = [row for row in parts.processes.all() if row.is_bridge]
    native = {name for row in workers for name in row.python}
    moving = MoveStore(parts.client).all()
    is_held = changes is not None and bool(changes.get("is_back"))
    if job_class not in native and job_class not in moving:
        _check_known(parts, job_class, native | moving.keys(), is_held=is_held)
    if changes is None or is_held:
        return
    if changes.get("percent") or changes.get("shadow"):
        _check_native(job_class, native, workers)
    if changes.get("shadow"):
        _check_shadow_safe(job_class, workers)


def _check_known(parts: Parts, job_class: str, known: set[str], *, is_held: bool) -> None:
    """A class may be held in Ruby before Redis has seen a job of it, unless its name looks like a slip."""
    sentence = classes.unknown(parts, job_class)
    if sentence is None:
        return
    close = difflib.get_close_matches(job_class, known, n=1)
    if close and "did you mean" not in sentence:
        sentence = f"no trace of {job_class} is in this Redis: did you mean {close[0]}?"
    if "did you mean" in sentence or not is_held:
        raise errors.ConfigurationError(sentence)
    classes.hint(sentence)


def _check_native(job_class: str, native: set[str], workers: list[ProcessRow]) -> None:
    names_all = all(len(row.python) < MOST_CLASSES for row in workers)
    if job_class not in native and names_all:
        raise errors.ConfigurationError(
            f"no running worker has a native task for {job_class}: "
            f'start one with @app.task(name="{job_class}") in its modules.'
        )


def _check_shadow_safe(job_class: str, workers: list[ProcessRow]) -> None:
    if not any(job_class in row.shadow_safe for row in workers):
        raise errors.ConfigurationError(
            f"the task {job_class} does not declare shadow_safe=True: "
            "declare it when the task writes nothing while self.is_shadow is true."
        )


def _sentence(job_class: str, made: Move | None) -> str:
    if made is None or made.is_finished:
        return f"{job_class} moves no more: workers with its native task run all its jobs in Python"
    if made.is_back:
        return f"{job_class}: all jobs run in Ruby"
    shadow = f"; {made.shadow:g} % of the Ruby runs are repeated in Python" if made.shadow else ""
    return f"{job_class}: {made.percent:g} % of the jobs run in Python, the others in Ruby{shadow}"


# -- the state


@click.command("moves")
@click.argument("job_class", metavar="[CLASS]", required=False, shell_complete=completion.CLASSES)
@output.json_option
@pass_parts
def moves(parts: Parts, job_class: str | None, as_json: bool) -> None:
    """Show the moves, both sides beside each other. With CLASS: the differences of its shadow runs."""
    report = MoveReport(parts.client)
    if job_class is not None:
        _differences(report, job_class, as_json)
        return
    rows = report.rows()
    if as_json:
        output.print_json(rows)
    elif rows:
        console = output.console()
        console.print(table(rows))
        for row in rows:
            if row.reason:
                console.print(Text(f"{row.job_class}: the guard took it back, because {row.reason}"))
    else:
        click.echo("no class moves: a native task runs all jobs of its class, and Ruby runs the others")


def table(rows: list[MoveRow]) -> RenderableType:
    """The moves as a table: two lines for each class."""
    columns = ("class", "side", ">percent", ">runs", ">failed", ">rate", ">p50", ">p95", ">retries", "")
    return output.table(columns, [line for row in rows for line in _lines(row)])


def _lines(row: MoveRow) -> list[tuple[object, ...]]:
    state = "back in Ruby" if row.is_back else "" if row.guard else "no guard"
    share = "unknown share" if row.sidekiq_share is None else f"{row.sidekiq_share:.0%}"
    differences = output.count(row.shadow_differences, "difference")
    shadow = f"{row.shadow_runs:,} in shadow, {differences}; " if row.shadow or row.shadow_runs else ""
    return [
        (row.job_class, "Python", f"{row.percent:g} %", *_numbers(row.python), state),
        (
            "",
            "Ruby",
            f"{100 - row.percent:g} %",
            *_numbers(row.ruby),
            f"{shadow}{share} in Sidekiq processes",
        ),
    ]


def _numbers(side: SideRow) -> tuple[object, ...]:
    times = (_ms(side.p50_ms), _ms(side.p95_ms))
    return (f"{side.runs:,}", f"{side.failures:,}", f"{side.failure_rate:.1%}", *times, f"{side.retries:,}")


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g} ms" if value < 10_000 else spans.readable(value / 1000)


def _differences(report: MoveReport, job_class: str, as_json: bool) -> None:
    found = report.differences(job_class)
    if as_json:
        output.print_json(found)
    elif found:
        columns = ("jid", "what", "Ruby", "Python")
        names = ("jid", "what", "ruby", "python")
        rows = [tuple(str(each.get(name, "")) for name in names) for each in found]
        output.console().print(output.table(columns, rows))
    else:
        click.echo(f"no shadow run of {job_class} has found a difference")
