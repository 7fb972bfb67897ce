from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from bridge.celery import make_app
from bridge.execution import coroutine_watch
from bridge.execution.coroutine_loop import CoroutineLoop
from bridge.settings import load as load_settings
from tests.support.waiting import wait_for


def test_a_coroutine_that_blocks_the_loop_is_named_with_its_place(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coroutine_watch, "BLOCKED_SECONDS", 0.1)
    app: Any = make_app(load_settings({}))

    @app.task(name="BlockJob", shared=False)
    async def blocks() -> None:
        await asyncio.sleep(0)
        time.sleep(0.5)

    app.finalize()
    loop, task = CoroutineLoop(app), app.tasks["BlockJob"]

    task.push_request(id="b10c")
    loop.run(task, task.code(), 1)
    task.pop_request()

    wait_for(lambda: "goes on" in caplog.text, "the end of it")
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "jid=b10c class=BlockJob blocks the event loop at" in warnings[0].getMessage()
    assert f"{__file__}:" in warnings[0].getMessage()
    assert "asyncio.to_thread()" in warnings[0].getMessage()
    loop.stop()
