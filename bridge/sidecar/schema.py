"""Everything a sidecar may say, field by field. The worker believes nothing else.

Each number is finite and has bounds, each text has a length. A reply that breaks a rule is an outage or an
unknown outcome: it is never a crash, a lost job or a spent attempt. ``docs/protocol.schema.json`` has the
same rules for those who write a sidecar. No error quotes what was said: it may hold a job's arguments.
"""

from __future__ import annotations

import json
import math
import threading
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
)
from pydantic import ValidationError as _Invalid

from bridge.sidecar.schema_health import DeadSetLimits, HealthReply
from bridge.sidecar.schema_types import (
    LONGEST_CLASS_NAME,
    LONGEST_DELAY_SECONDS,
    LONGEST_MESSAGE,
    LONGEST_RUN_MS,
    Boot,
    Fields,
    Name,
    PromotedFields,
    Said,
    printable,
    removable,
    text_of,
)

#: Of a queue that sidekiq-throttled does not look into.
LONGEST_PAUSE_SECONDS = 60.0

# -- outcomes


class JobError(Said):
    class_: Annotated[str, text_of(LONGEST_CLASS_NAME)] = Field(alias="class")
    message: Annotated[str, text_of(LONGEST_MESSAGE)]


class RetryNext(Said):
    place: Literal["retry"]
    delay: float = Field(ge=0, le=LONGEST_DELAY_SECONDS)
    delay_source: Literal["default", "sidekiq_retry_in"]
    fields: Fields


class DeadNext(Said):
    place: Literal["dead"]
    fields: Fields
    dead_limits: DeadSetLimits


class NoNext(Said):
    place: Literal["none"]


Next = Annotated[RetryNext | DeadNext | NoNext, Field(discriminator="place")]


class _Outcome(Said):
    jid: Any
    delivery: Annotated[str, StringConstraints(max_length=300)]
    duration_ms: float = Field(ge=0, le=LONGEST_RUN_MS)


class DoneOutcome(_Outcome):
    status: Literal["done"]
    # JSON as Ruby wrote it: the worker encodes nothing again.
    result: Annotated[str, AfterValidator(json_text)] | None = None
    result_lost: Annotated[str, text_of(LONGEST_MESSAGE)] | None = None


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


class PostponedOutcome(_Outcome):
    status: Literal["postponed"]
    queue: Annotated[str, StringConstraints(max_length=300)] = ""
    seconds: float | None = Field(None, ge=0, le=LONGEST_DELAY_SECONDS)
    pause_seconds: float = Field(0.0, ge=0, le=LONGEST_PAUSE_SECONDS)


OutcomeReply = DoneOutcome | FailedOutcome | InterruptedOutcome | ShutdownOutcome | PostponedOutcome


def json_text(text: str) -> str:
    """A text that is JSON. Raises ValueError."""
    _parsed(text.encode("utf-8", "surrogatepass"))
    return text


def _as_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


# -- the other replies


class ErrorReply(Said):
    """Any reply of 400 and above."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
    message: Annotated[str, text_of(2000)]
    boot: Boot | None = None
    protocol: int | None = Field(None, ge=1, le=1_000_000)


class ProtocolOf(Said):
    """The one field that every version of ``/health`` has."""

    protocol: int = Field(ge=1, le=1_000_000)


class Changed(Said):
    fields: PromotedFields
    removed: Annotated[list[Name], Field(max_length=10_000), AfterValidator(removable)]


class Halted(Said):
    halted: Literal[True]


class Failed(Said):
    error: Annotated[str, text_of(LONGEST_MESSAGE)]


class PromotedReply(Said):
    """200 to ``/jobs/promote``."""

    jobs: list[Changed | Halted | Failed]


class Told(Said):
    """One notice. ``discard``: the class's own hook keeps the job out of the dead set."""

    id: Annotated[str, StringConstraints(max_length=400)]
    status: Literal["told", "running"]
    discard: bool = False


class NoticesReply(Said):
    """200 to ``/jobs/death`` and ``/jobs/error``: of the first notices, in any order."""

    notices: Annotated[list[Told], Field(max_length=1000)]


OUTCOME: TypeAdapter[OutcomeReply] = TypeAdapter(
    Annotated[OutcomeReply, Field(discriminator="status")], config=ConfigDict(defer_build=True)
)
ERROR = TypeAdapter(ErrorReply)
HEALTH = TypeAdapter(HealthReply)
PROTOCOL_OF = TypeAdapter(ProtocolOf)
PROMOTED = TypeAdapter(PromotedReply)
NOTICES = TypeAdapter(NoticesReply)

_Reply = TypeVar("_Reply")
_building = threading.Lock()


def read(kind: TypeAdapter[_Reply], body: bytes) -> _Reply:
    """A reply's body as ``kind`` describes it. Raises ValueError with a reason that quotes no value."""
    if not kind.pydantic_complete:
        build(kind)
    try:
        return kind.validate_python(_parsed(body))
    except _Invalid as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        where = ".".join(printable(str(part), 40) for part in first["loc"])
        # The message about an unknown tag quotes it.
        what = "is not a known word" if first["type"] == "union_tag_invalid" else printable(first["msg"])
        raise ValueError(f"{where or 'it'}: {what}") from None


def build(kind: TypeAdapter[Any]) -> None:
    """Build the validator. One thread at a time does so: several may wait for the same kind of reply."""
    with _building:
        if not kind.pydantic_complete:
            kind.rebuild()


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
