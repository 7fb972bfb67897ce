from __future__ import annotations

import io
import logging
import os
import time

import pytest

from bridge.monitoring.logs.batching import Batching
from tests.support.forks import begin_in_fork, status_of
from tests.support.waiting import wait_until_equal


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def handler(stream: io.StringIO) -> Batching:
    return Batching(logging.StreamHandler(stream))


def record(message: str, name: str = "bridge.job") -> logging.LogRecord:
    return logging.LogRecord(name, logging.INFO, __file__, 1, message, (), None)


def test_job_lines_come_within_a_moment(handler: Batching, stream: io.StringIO) -> None:
    for round_number in range(2):
        handler.handle(record("start"))
        handler.handle(record("done"))
        wait_until_equal(stream.getvalue, "start\ndone\n" * (round_number + 1), "the lines")


def test_any_other_line_takes_them_along_in_order(handler: Batching, stream: io.StringIO) -> None:
    handler.handle(record("start"))
    handler.handle(record("trouble %s", "celery"))
    assert stream.getvalue() == "start\ntrouble %s\n"


def test_the_end_of_the_process_writes_what_waits(handler: Batching, stream: io.StringIO) -> None:
    handler.handle(record("start"))
    handler.flush()
    assert stream.getvalue() == "start\n"


def test_a_pool_process_does_not_write_its_parents_lines_again() -> None:
    reader, writer = os.pipe()
    handler = Batching(logging.StreamHandler(os.fdopen(writer, "w")))
    handler.handle(record("parent"))

    def in_the_pool_process() -> None:
        handler.handle(record("child"))
        time.sleep(0.3)

    assert status_of(begin_in_fork(in_the_pool_process)) == 0
    wait_until_equal(lambda: sorted(os.read(reader, 100).split()) or 0, [b"child", b"parent"], "both, once")
    os.close(reader)
