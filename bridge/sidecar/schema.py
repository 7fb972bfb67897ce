"""Everything a sidecar may say, field by field. What is not written here is not believed.

Each number is finite and has bounds, each text has a length. A reply that breaks a rule is an outage or an
unknown outcome: it is never a crash, a lost job or a spent attempt. ``docs/protocol.schema.json`` has the
same rules for those who write a sidecar. No error quotes what was said: it may hold a job's arguments.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
)
from pydantic import ValidationError as _Invalid

#: Seconds: a hundred years. The sidecar cuts longer delays itself.
LONGEST_DELAY_SECONDS = 3_155_760_000
LONGEST_RUN_MS = 1e12
#: Sidekiq's trim keeps one entry less than it says: smaller limits would empty the set.
FEWEST_DEAD_JOBS = 2
SHORTEST_DEAD_SECONDS = 60
MOST = 10**12
DEEPEST = 100
LONGEST_MESSAGE = 20_000
LONGEST_CLASS_NAME = 1000

#: What a job is, and what a run of it may not change.
NEVER_SET = frozenset({"class", "args", "jid", "wrapped"})


def printable(text: str, longest: int = 200) -> str:
    """A sidecar's text for a log line or a sentence: without control characters, and not too long."""
    return "".join(char if char.isprintable() else "?" for char in text[:longest])


def _text(longest: int) -> Any:
    def clean(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("must be a text")
        return value[:longest].encode("utf-8", "replace").decode()

    return BeforeValidator(clean)


def _shallow(value: Any, left: int = DEEPEST) -> None:
    if left == 0:
        raise ValueError(f"is nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return
    for inner in value:
        _shallow(inner, left - 1)


def _settable(fields: dict[str, Any]) -> dict[str, Any]:
    if found := NEVER_SET & fields.keys():
        raise ValueError(f"a run may not set {min(found)}")
    _shallow(fields)
    if "queue" in fields:
        # Sidekiq stores a retry_queue as it is; the Retries page of 8.1 raises at a queue that is not a text.
        fields = {**fields, "queue": str(fields["queue"])}
    return fields


def _promoted(fields: dict[str, Any]) -> dict[str, Any]:
    """Client middleware may change arguments, as it may in Sidekiq. The job stays the same job."""
    if "jid" in fields:
        raise ValueError("middleware may not set jid")
    _shallow(fields)
    return fields


def _removable(names: list[str]) -> list[str]:
    if found := NEVER_SET & set(names):
        raise ValueError(f"middleware may not remove {min(found)}")
    return names


Boot = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Word = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$")]
Words = Annotated[list[Word], Field(max_length=1000)]
Version = Annotated[str, StringConstraints(max_length=50, pattern=r"^[0-9]{1,4}(\.[0-9A-Za-z]+)*$")]
Count = Annotated[int, Field(ge=0, le=MOST)]
Fields = Annotated[dict[str, Any], AfterValidator(_settable)]
PromotedFields = Annotated[dict[str, Any], AfterValidator(_promoted)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class _Said(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)


class DeadSetLimits(_Said):
    max_jobs: int = Field(ge=FEWEST_DEAD_JOBS, le=MOST)
    timeout_seconds: int = Field(ge=SHORTEST_DEAD_SECONDS, le=MOST)


# -- outcomes


class JobError(_Said):
    class_: Annotated[str, _text(LONGEST_CLASS_NAME)] = Field(alias="class")
    message: Annotated[str, _text(LONGEST_MESSAGE)]


class RetryNext(_Said):
    place: Literal["retry"]
    delay: float = Field(ge=0, le=LONGEST_DELAY_SECONDS)
    delay_source: Literal["default", "sidekiq_retry_in"]
    fields: Fields


class DeadNext(_Said):
    place: Literal["dead"]
    fields: Fields
    dead_limits: DeadSetLimits


class NoNext(_Said):
    place: Literal["none"]


Next = Annotated[RetryNext | DeadNext | NoNext, Field(discriminator="place")]


class _Outcome(_Said):
    jid: Any
    delivery: Annotated[str, StringConstraints(max_length=300)]
    duration_ms: float = Field(ge=0, le=LONGEST_RUN_MS)


class DoneOutcome(_Outcome):
    status: Literal["done"]


class FailedOutcome(_Outcome):
    status: Literal["failed"]
    error: JobError
    next: Next


class InterruptedOutcome(_Outcome):
    status: Literal["interrupted"]
    # Ruby may send bytes that are not UTF-8: lone surrogates here, which pydantic's str refuses.
    payload: Annotated[Any, AfterValidator(lambda value: _as_text(value))]


class ShutdownOutcome(_Outcome):
    status: Literal["shutdown"]
    asked: bool = True


OutcomeReply = DoneOutcome | FailedOutcome | InterruptedOutcome | ShutdownOutcome


def _as_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


# -- the other replies


class ErrorReply(_Said):
    """Any reply of 400 and above."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
    message: Annotated[str, _text(2000)]
    boot: Boot | None = None
    protocol: int | None = Field(None, ge=1, le=1_000_000)


class ProtocolOf(_Said):
    """The one field that every version of ``/health`` has."""

    protocol: int = Field(ge=1, le=1_000_000)


class WorkerState(_Said):
    """One Puma worker, in ``/health``."""

    boot: Boot
    url: Annotated[str, StringConstraints(max_length=500, pattern=r"^[\x21-\x7e]+$")]
    slots: int = Field(ge=1, le=100_000)
    busy: int = Field(ge=0, le=1_000_000)
    draining: bool = False


class HealthReply(_Said):
    """200 to ``/health``, as far as the worker uses it."""

    protocol: int
    status: Literal["booting", "ready", "draining"]
    sidekiq: Version
    max_retries: Count
    dead: DeadSetLimits
    workers: list[WorkerState] = Field(min_length=1, max_length=1024)
    client_middleware: Words = []
    cron: Words = []
    cron_unserved: Words = []
    version: Word = ""
    now: float | None = Field(None, ge=0, le=1e11)
    timeout_seconds: float | None = Field(None, ge=0, le=MOST)
    database_pool: Count | None = None
    traces_on_streams: bool = False


class Changed(_Said):
    fields: PromotedFields
    removed: Annotated[list[Name], Field(max_length=10_000), AfterValidator(_removable)]


class Halted(_Said):
    halted: Literal[True]


class Failed(_Said):
    error: Annotated[str, _text(LONGEST_MESSAGE)]


class PromotedReply(_Said):
    """200 to ``/jobs/promote``."""

    jobs: list[Changed | Halted | Failed]


OUTCOME: TypeAdapter[OutcomeReply] = TypeAdapter(Annotated[OutcomeReply, Field(discriminator="status")])
ERROR = TypeAdapter(ErrorReply)
HEALTH = TypeAdapter(HealthReply)
PROTOCOL_OF = TypeAdapter(ProtocolOf)
PROMOTED = TypeAdapter(PromotedReply)

_Reply = TypeVar("_Reply")


def read(kind: TypeAdapter[_Reply], body: bytes) -> _Reply:
    """A reply's body as ``kind`` describes it. Raises ValueError with a reason that quotes no value."""
    try:
        return kind.validate_python(_parsed(body))
    except _Invalid as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        where = ".".join(printable(str(part), 40) for part in first["loc"])
        # The message about an unknown tag quotes it.
        what = "is not a known word" if first["type"] == "union_tag_invalid" else printable(first["msg"])
        raise ValueError(f"{where or 'it'}: {what}") from None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError:
        raise ValueError("it is not JSON") from None
    except (RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"it cannot be read ({type(error).__name__})") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
