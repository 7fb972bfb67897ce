"""Which jobs are tracked, and how long their results stay."""

from __future__ import annotations

from pydantic import Field

from bridge.settings.monitoring import Names
from bridge.settings.sentinels import SentinelUser


class Results(SentinelUser):
    """Results and progress by jid; a part of ``Settings``."""

    track: Names = Field(
        (),
        description="Classes whose results and progress are stored, separated by commas; * for all.",
        examples=["ReportJob,Admin::ExportJob", "*"],
    )
    result_ttl_seconds: int = Field(
        86_400,
        ge=1,
        le=31_536_000,
        description="How long a result stays after the last change.",
        examples=["86400"],
    )
