"""The settings of what a worker tells about itself, and of the memory it may take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator, field_validator

from bridge.settings import values
from bridge.settings.redis_url import Address
from bridge.settings.told import Told

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda value: str(value).upper()),
]


def number_as_text(value: object) -> object:
    """YAML reads 7 and 8.1 as numbers."""
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(number_as_text)]
Names = Annotated[tuple[str, ...], PlainValidator(values.names)]
Bind = Annotated[Address, PlainValidator(values.bind_address)]


class Watching(Told):
    """Logs, metrics, traces and memory; a part of ``Settings``."""

    health_bind: Bind = Field(
        Address("127.0.0.1", 9394),
        description="Address at which the worker serves /metrics and /health.",
        examples=["127.0.0.1:9394"],
    )
    health_return: bool = Field(
        False,
        description="Whether a worker that found this port taken moves to it later (`bridge up` says true).",
        examples=["true"],
    )
    log_level: LogLevel = Field(
        "INFO", description="DEBUG, INFO, WARNING, ERROR or CRITICAL.", examples=["INFO"]
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="text, json, or auto: text on a terminal, else json.", examples=["json"]
    )
    log_file: Path | None = Field(
        None,
        description="File for the log instead of stdout; reopened when it was moved (logrotate).",
        examples=["/var/log/bridge/worker.log"],
    )
    log_file_megabytes: float | None = Field(
        None, gt=0, description="Size at which the worker itself rotates its log file.", examples=["100"]
    )
    log_files_kept: int = Field(
        5, ge=1, le=1000, description="Rotated log files that are kept.", examples=["5"]
    )
    log_tracebacks: Literal["all", "last", "none"] = Field(
        "all",
        description="Tracebacks of failing jobs in the log: of each attempt, of the last one only, or none.",
        examples=["all", "last"],
    )
    show_args: bool = Field(
        False, description="Whether Flower and events show the arguments of jobs.", examples=["false"]
    )
    tag: Text = Field("", description="Shown beside this worker on the Busy page.", examples=["myapp"])
    labels: Names = Field(
        (),
        description="Shown beside this worker on the Busy page, separated by commas.",
        examples=["python,reliable"],
    )
    tracing: Literal["off", "child", "link"] = Field(
        "off",
        description="OpenTelemetry spans (extra otel): child of who pushed, or only linked to it.",
        examples=["child"],
    )
    max_memory_megabytes: int | None = Field(
        None,
        ge=1,
        description="Resident memory at which the worker ends as on TERM, for its supervisor to restart.",
        examples=["1024"],
    )
    child_max_memory_megabytes: int | None = Field(
        None,
        ge=1,
        description="Resident memory at which a prefork process is replaced after its job.",
        examples=["512"],
    )

    @field_validator("log_file")
    @classmethod
    def _has_a_folder(cls, path: Path | None) -> Path | None:
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise ValueError("the folder of this file is not there, or it is a folder itself")
        return path
