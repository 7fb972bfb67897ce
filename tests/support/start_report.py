"""A user's module whose worker writes, once it is ready, what its start has loaded."""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from celery.signals import worker_ready

from tests.support.native_tasks import app as app


@worker_ready.connect
def report(**_: Any) -> None:
    """One JSON object, complete when the file exists."""
    from bridge.sidecar import schema

    kinds = ("OUTCOME", "ERROR", "HEALTH", "PROMOTED", "NOTICES")
    found = {
        "modules": sorted(sys.modules),
        "built": [kind for kind in kinds if getattr(schema, kind).pydantic_complete],
        "collects": gc.isenabled(),
        "frozen": gc.get_freeze_count(),
    }
    file = Path(os.environ["TEST_START_REPORT"])
    file.with_suffix(".part").write_text(json.dumps(found))
    file.with_suffix(".part").rename(file)
