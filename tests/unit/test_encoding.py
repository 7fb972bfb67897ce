from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.redis.encoding import CommandPacker, packed

INTERRUPTED = """
import signal, sys, time
from bridge.redis.encoding import CommandPacker, packed

def interrupt(number, frame):
    raise KeyboardInterrupt

pack = CommandPacker().pack if sys.argv[1] == "redis-py" else lambda *words: packed(words)
signal.signal(signal.SIGALRM, interrupt)
until, interrupts = time.monotonic() + 60, 0
while interrupts < 300 and time.monotonic() < until:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        while True:
            pack("ZADD", "key", *range(200), 1.5, b"bytes")
    except KeyboardInterrupt:
        interrupts += 1
sys.exit(0 if interrupts == 300 else 1)
"""


@pytest.mark.parametrize("way", ["redis-py", "line"])
def test_an_interrupt_while_a_number_is_packed_does_not_end_the_process(way: str) -> None:
    """``bridge jobs kill`` that was interrupted by Ctrl-C died of a segmentation fault, one time in ten."""
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED, way], cwd=root, timeout=90, check=False)

    assert ended.returncode == 0


def test_numbers_text_and_bytes_are_packed_as_redis_reads_them() -> None:
    found = packed(("ECHO", b"\xff\r\n", "é", 12, -1.5, True))

    assert found == (
        b"*6\r\n$4\r\nECHO\r\n$3\r\n\xff\r\n\r\n$2\r\n\xc3\xa9\r\n$2\r\n12\r\n$4\r\n-1.5\r\n$4\r\nTrue\r\n"
    )


def test_the_name_of_a_command_may_be_several_words() -> None:
    assert CommandPacker().pack("CLIENT SETNAME", bytearray(b"me")) == [
        b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$2\r\nme\r\n"
    ]
