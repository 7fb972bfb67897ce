"""The store's side of leases: lease_*.lua."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.redis import scripts
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.claims import LeaseState
from bridge.sidekiq.store.script_calls import ScriptCalls


class LeaseCalls(ScriptCalls):
    """Takes, renews, ends and judges leases."""

    def lease(self, identity: str, length_ms: int, *, register: bool = False) -> LeaseState:
        """Take (``register``) or renew a lease of ``length_ms``."""
        args = (identity, length_ms, "register" if register else "renew")
        names = (keys.LEASE, keys.inflight(identity), keys.arrived(identity))
        till = self._one(scripts.Call(lua.load("lease_renew"), names, args))
        return LeaseState.HELD if till else LeaseState.FENCED

    def expired_leases(
        self,
        identity: str,
        *,
        window: tuple[float, float] | None = None,
        unchanged: Sequence[tuple[str, float]] = (),
    ) -> list[str]:
        """Identities of workers whose lease is over; from now on they can claim and renew nothing.

        Leases are judged by Redis TIME within ``window`` (first and last TIME in ms); without one, only those
        that were ended are named. ``unchanged`` are further leases that are over if they still end then.
        """
        args = (identity, *(window or (1, 0)), *(word for lease in unchanged for word in lease))
        found = self._one(scripts.Call(lua.load("lease_expired"), (keys.LEASE,), args))
        return [name.decode(errors="replace") for name in found]

    def leave(self, identity: str, *, reaped: bool = False) -> int:
        """End a lease. Returns how many jobs its holder still had; those are for a reaper.

        A holder that was ``reaped`` may not renew it, though jobs are left that Redis refuses to move.
        """
        args = (identity, -1 if reaped else 0)
        touched = (keys.LEASE, keys.inflight(identity), keys.fence(identity), keys.arrived(identity))
        call = scripts.Call(lua.load("lease_end"), touched, args)
        return int(self._one(call))
