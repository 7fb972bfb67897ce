"""Asks a sidecar what a job class of the app does around its ``perform`` (``POST /classes/describe``)."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from bridge import errors
from bridge.sidecar import schema
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.schema_types import Said, Word, Words

PATH = "/classes/describe"


class ClassReply(Said):
    """200 to ``/classes/describe``. A class that is not a job of the app has its kind alone."""

    kind: Literal["job", "active_job", "unknown", "refused"]
    options: dict[Word, Any] = Field(default_factory=dict, max_length=1000)
    hooks: Words = Field(default_factory=list)
    retry_on: Words = Field(default_factory=list)
    discard_on: Words = Field(default_factory=list)
    rescue_from: Words = Field(default_factory=list)
    callbacks: Words = Field(default_factory=list)
    parameters: list[Annotated[list[Word], Field(min_length=2, max_length=2)]] = Field(
        default_factory=list, max_length=100
    )
    place: Word | None = None
    iterable: bool = False
    modules: Words = Field(default_factory=list)
    current_attributes: Words = Field(default_factory=list)
    server_middleware: Words = Field(default_factory=list)


DESCRIBED = TypeAdapter(ClassReply)


def describe(client: SidecarClient, job_class: str) -> ClassReply:
    """Ask the first sidecar that answers.

    Raises:
        SidecarError: none answers, or it does not know the question.
    """
    client.fleet.refresh()
    body = client.post(PATH, json.dumps({"class": job_class}).encode())
    try:
        return schema.read(DESCRIBED, body)
    except ValueError as error:
        raise errors.OutcomeUnknown(
            f"the sidecar's reply about {job_class} makes no sense: {error}"
        ) from None
