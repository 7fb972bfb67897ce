"""A user's module with Sentry: what would be sent is appended to a file."""

from __future__ import annotations

import json
import os
from typing import Any

import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport


class ToFile(Transport):
    """Appends one line for each transaction and error."""

    def capture_envelope(self, envelope: Any) -> None:
        for item in envelope.items:
            event = item.payload.json
            if isinstance(event, dict) and "contexts" in event:
                found = {"type": event.get("type", "event"), "trace": event["contexts"].get("trace", {})}
                with open(os.environ["TEST_SENTRY_FILE"], "a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")


sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1",
    transport=ToFile,
    traces_sample_rate=1.0,
    integrations=[CeleryIntegration()],
)

from tests.support.native_tasks import app as app  # noqa: E402
