"""Types of what a sidecar may say: numbers with bounds, texts with a length, fields that a run may set."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

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

#: Fields that identify a job; a run may not change them.
NEVER_SET = frozenset({"class", "args", "jid", "wrapped"})


def printable(text: str, longest: int = 200) -> str:
    """A sidecar's text for a log line or a sentence: without control characters, and not too long."""
    return "".join(char if char.isprintable() else "?" for char in text[:longest])


def text_of(longest: int) -> Any:
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


def removable(names: list[str]) -> list[str]:
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


class Said(BaseModel):
    # A validator is built for the first reply of its kind: a worker without a sidecar builds none.
    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", hide_input_in_errors=True, defer_build=True
    )
