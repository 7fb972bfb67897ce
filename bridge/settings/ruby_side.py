"""Which jobs pass the middleware of the Rails app."""

from __future__ import annotations

from pydantic import Field

from bridge.settings.monitoring import Names, Watching


class RubySide(Watching):
    """The part of the app's middleware in Python's jobs; a part of ``Settings``."""

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
    promote_through_sidecar: bool = Field(
        True,
        description="Whether due jobs pass the app's client middleware, as with Sidekiq's own poller.",
        examples=["true"],
    )
