"""The store's side of claimed jobs that have not begun: a crash counts none of them towards a poison pill."""

from __future__ import annotations

from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.store.script_calls import ScriptCalls
from bridge.sidekiq.store.settlement import RECOVERED_TTL_SECONDS, Settlement, give_back_call


class UnbegunJobs(ScriptCalls):
    """Notes them by their tokens. Each method raises StoreError."""

    def note_unbegun(self, identity: str, token: int) -> None:
        """A job of this worker waits for its time."""
        name = keys.unbegun(identity)
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            pipeline.sadd(name, token)
            pipeline.expire(name, RECOVERED_TTL_SECONDS)
            pipeline.execute()

    def forget_unbegun(self, identity: str, *tokens: int) -> None:
        """These jobs begin, or leave this worker."""
        with outages():
            self.client.srem(keys.unbegun(identity), *tokens)

    def unbegun(self, identity: str) -> set[int]:
        """Tokens of a worker's jobs that have not begun."""
        with outages():
            return {int(token) for token in self.client.smembers(keys.unbegun(identity))}

    def give_back(self, settlement: Settlement) -> int:
        """Take a job that never began out of a dead worker's hands. Returns 0 (gone) or 1."""
        return int(self._one(give_back_call(settlement)))
