"""The app in Ruby as the worker sees it: its middleware and its gems."""

from __future__ import annotations

from pydantic import Field

from bridge.settings.monitoring import Names, Watching


class RubySide(Watching):
    """How long to wait for a sidecar, and what passes the app's middleware; a part of ``Settings``."""

    sidecar_connect_timeout_seconds: float = Field(
        2.0, gt=0, le=600, description="How long connecting to the sidecar may take.", examples=["2"]
    )
    sidecar_read_timeout_seconds: float = Field(
        40.0,
        gt=30,
        le=3600,
        description="How long one answer may take; more than the 30 s a long poll waits.",
        examples=["40"],
    )
    ruby_middleware: Names = Field(
        (),
        description="Native tasks, by class, that run inside the Rails app's server middleware.",
        examples=["ReportJob,Admin::ExportJob"],
    )
    ruby_client: bool = Field(
        False,
        description="Whether pushes from Python pass the app's client middleware, through a sidecar.",
        examples=["true"],
    )
    accept_gems: Names = Field(
        (),
        description="Fetchers of the app, and changes of Sidekiq's, that a worker accepts as lost.",
        examples=["OwnFetch"],
    )
    promote_through_sidecar: bool = Field(
        True,
        description="Whether due jobs pass the app's client middleware, as with Sidekiq's own poller.",
        examples=["true"],
    )
