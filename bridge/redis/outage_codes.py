"""What Redis says while it cannot serve. Imports nothing: the keeper of the lease is a small process."""

from __future__ import annotations

#: Not a fault of the request, so the request is repeated later.
OUTAGE_CODES = frozenset(
    ["LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "MISCONF", "OOM", "CLUSTERDOWN", "BUSY", "UNBLOCKED"]
)


def tells_of_outage(code: str, text: str) -> bool:
    """Whether an error with this code and text is an outage. Redis 6.2 wraps that of a script in another."""
    wrapped = text.startswith("Error running script")
    return code in OUTAGE_CODES or (wrapped and any(f"-{each} " in text for each in OUTAGE_CODES))
