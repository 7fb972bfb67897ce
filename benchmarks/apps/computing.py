"""How a job in Python computes."""

import time


def compute(milliseconds: float) -> None:
    """Use that much CPU in this thread."""
    deadline = time.thread_time() + milliseconds / 1000
    while time.thread_time() < deadline:
        pass
