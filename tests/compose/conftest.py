"""The containers, on a real engine. Only `make compose-test` runs these: it sees to images and engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.stack import Stack

if os.environ.get("BRIDGE_COMPOSE_TEST") != "1":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """docker-compose.yml, up and healthy; gone with its volumes afterwards."""
    stack = Stack()
    stack.down()  # what a run left that was interrupted
    try:
        stack.up()
        yield stack
    finally:
        Path(os.environ["COMPOSE_TEST_LOG"]).write_text(stack.compose("logs", "--no-color", "--timestamps"))
        stack.down()
