"""The fleet: how rarely a process reads the rows of all other processes, because each of them does so."""

from __future__ import annotations

import random

#: Seconds between two reads, for each process: one process reads ten rows a second, in a fleet of any size.
SECONDS_A_PROCESS = 0.1
#: In a fleet of that many, each look may read all.
FEW_PROCESSES = 16
#: Of processes that were started at once, not all shall read at once.
SPREAD = 0.5, 1.5


def rest_seconds(processes: int, *, few: int = 0) -> float:
    """Until the rows of all these processes are read again. 0: at the next look, for at most ``few``."""
    if processes <= few:
        return 0.0
    return processes * SECONDS_A_PROCESS * random.uniform(*SPREAD)  # nosec B311
