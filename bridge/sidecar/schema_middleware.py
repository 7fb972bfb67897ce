"""A sidecar's replies about Python's jobs in Ruby's middleware; see :mod:`bridge.sidecar.schema`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter

from bridge.sidecar.schema_types import LONGEST_MESSAGE, Name, PromotedFields, Said, removable, text_of


class BodyReply(Said):
    """Not an outcome: the sidecar asks for the Python code of the job."""

    status: Literal["body"]
    jid: Any
    delivery: Annotated[str, StringConstraints(max_length=300)]
    turn: int = Field(ge=1, le=1_000_000)
    fields: PromotedFields
    removed: Annotated[list[Name], Field(max_length=10_000), AfterValidator(removable)]


class PushedReply(Said):
    """200 to ``/jobs/push``: pushed, halted by client middleware, or an error of the app."""

    jid: str | None = Field(None, max_length=1000)
    queue: str | None = Field(None, max_length=10_000)
    halted: bool = False
    error: Annotated[str, text_of(LONGEST_MESSAGE)] | None = None


BODY = TypeAdapter(BodyReply)
PUSHED = TypeAdapter(PushedReply)
