"""``bridge push``: enqueue a job by hand."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import click
from click.core import ParameterSource

from bridge import errors
from bridge.cli import active_jobs, classes, completion, naming, output
from bridge.cli.parts import Parts, pass_parts
from bridge.cli.spans import SPAN
from bridge.sidekiq.payload import new_job as pushing
from bridge.sidekiq.payload import options as sidekiq_options
from bridge.sidekiq.payload.job import new_jid

#: A Ruby class, or the name that Celery gives to a task of Python's.
_CLASS = re.compile(r"(?:::)?[A-Z]\w*(?:::[A-Z]\w*)*|[A-Za-z_]\w*(?:\.\w+)+|[a-z_]+_[a-z0-9_]+", re.ASCII)


class Json(click.ParamType[Any]):
    """One JSON value."""

    name = "json"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value. Fails with what to write."""
        text = str(value)
        if re.match(r"--?[A-Za-z]", text):
            self.fail(f"no such option: {text}", param, ctx)
        try:
            return json.loads(text, parse_constant=_refuse)
        except ValueError:
            self.fail(
                f"{value!r} is not JSON: write 5, true, null, '[1, 2]' or '\"text\"' (with both quotes)",
                param,
                ctx,
            )


class Moment(click.ParamType[float]):
    """A time as ISO 8601; UTC where no zone is named. In epoch seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Epoch seconds. Fails with what to write."""
        try:
            when = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time: write 2027-01-31T08:00:00+01:00", param, ctx)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


# A number below zero is an argument, not an option.
@click.command("push", context_settings={"ignore_unknown_options": True})
@click.argument("job_class", metavar="CLASS", shell_complete=completion.CLASSES)
@click.argument("args", nargs=-1, type=Json(), metavar="[ARG]...")
@click.option("--queue", default="default", show_default=True, shell_complete=completion.QUEUES)
@click.option("--in", "after", type=SPAN, metavar="SPAN", help="Run it after this span: 90s, 2h.")
@click.option(
    "--at", type=Moment(), metavar="TIME", help="Run it at this time (ISO 8601, UTC without a zone)."
)
@click.option(
    "--set", "options", multiple=True, metavar="NAME=JSON", help="A sidekiq_option: retry=5, tags='[\"x\"]'."
)
@click.option(
    "--ruby-client/--no-ruby-client",
    default=None,
    help="Push through the Rails app: options of the class and client middleware apply.",
)
@output.yes_option
@output.json_option
@pass_parts
@click.pass_context
def push(
    ctx: click.Context,
    parts: Parts,
    job_class: str,
    args: tuple[Any, ...],
    queue: str,
    after: float | None,
    at: float | None,
    options: tuple[str, ...],
    ruby_client: bool | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Enqueue a job of CLASS with these arguments, each written as JSON. Prints its jid.

    The class's own sidekiq_options are in Ruby and are not known here: without --set its retries are
    Sidekiq's default.
    """
    _check(job_class, queue, after, at)
    if ctx.get_parameter_source("queue") is ParameterSource.COMMANDLINE:
        naming.confirm_queues(parts, [queue], "push to it", yes)
    if not yes:
        active_jobs.refuse(parts, job_class, args)
    slip = _slip(parts, job_class)
    now, jid = time.time(), new_jid(os.urandom(12))
    when = at if after is None else now + after
    when = when if when is not None and when > now else None
    fields = dict(_option(text) for text in options)
    job = pushing.payload(
        job_class, args, queue, jid, now, parts.dialect.timestamps, fields, scheduled=when is not None
    )
    if parts.settings.ruby_client if ruby_client is None else ruby_client:
        named = ctx.get_parameter_source("queue") is ParameterSource.COMMANDLINE
        queue = _push_in_ruby(parts, job_class, job, when, {*fields, *(["queue"] if named else [])})
    else:
        parts.store.put(queue, job, when)
    if as_json:
        output.print_json({"jid": jid, "queue": queue, "at": when})
    else:
        click.echo(jid)
    with contextlib.suppress(errors.BridgeError):
        # The job is there: what keeps a hint from being made must not look like a failed push.
        naming.hint_when_unserved(parts, queue)
    classes.hint(slip)


def _push_in_ruby(
    parts: Parts, job_class: str, job: bytes, when: float | None, given: Collection[str]
) -> str:
    implied = {"retry", "queue", "created_at", "enqueued_at"} - {*given}
    queue = parts.ruby_client.push(job_class, job, when, implied)
    if queue is None:
        raise errors.PushRefused(f"{job_class}: the app's client middleware stopped the push")
    return queue


def _check(job_class: str, queue: str, after: float | None, at: float | None) -> None:
    if not _CLASS.fullmatch(job_class):
        raise click.UsageError(
            f"{job_class} is not a class: write it as in Ruby, HardJob or Module::HardJob, "
            "or as a native task is named, mytasks.report"
        )
    naming.check([queue])
    if after is not None and at is not None:
        raise click.UsageError("--in and --at are both given: write one of them")


def _slip(parts: Parts, job_class: str) -> str | None:
    with contextlib.suppress(errors.BridgeError):
        return classes.unknown(parts, job_class)
    return None  # a failure of the hint must not keep the job from its queue


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or name in ("class", "args", "queue"):
        raise click.UsageError(
            f"--set {text}: write NAME=JSON, such as retry=5; CLASS and --queue have places of their own"
        )
    option = _json(text, value)
    if (wrong := sidekiq_options.objection({name: option})) is not None:
        raise click.UsageError(f"--set {wrong}")
    return name, option


def _json(text: str, value: str) -> Any:
    try:
        return Json().convert(value, None, None)
    except click.BadParameter as error:
        raise click.UsageError(f"--set {text}: {error.message}") from None


def _refuse(name: str) -> None:
    raise ValueError(name)
