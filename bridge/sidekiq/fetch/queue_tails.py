"""The jobs that run next in each queue of a worker, read with few commands for any number of queues."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bridge.sidekiq.store.store import RedisStore

#: Queues read at first, while it is not known which have jobs; then more and more of them.
FIRST_LOOK = 4


class QueueTails:
    """Remembers the last look: queues that were empty are asked all at once whether they still are.

    That memory only says what is cheap to ask. Each look asks Redis about every queue before the one whose
    jobs it names. For one thread at a time.
    """

    def __init__(self) -> None:
        self._had: dict[str, int] = {}
        """How many jobs a queue had at the last look, as far as they were read."""

    def tails(
        self, store: RedisStore, names: Sequence[str], free: Callable[[], int]
    ) -> Iterator[tuple[str, list[bytes]]]:
        """Each queue with jobs, in order, and those that run next, as many as slots are free by then."""
        most = FIRST_LOOK
        while names and (count := free()):
            portion = self._portion(names, most, count * most // FIRST_LOOK)
            quiet, read = self._parted(portion)
            stirred, found = store.look(quiet, read, count)
            if stirred and self._wake(store.occupied(quiet)):
                continue
            for name, payloads in zip(read, found, strict=True):
                self._note(name, payloads)
                if payloads:
                    yield name, payloads[: free()]
            names, most = names[len(portion) :], 4 * most

    def expect(self, name: str) -> None:
        """A watch has seen a job there: read it at the next look."""
        self._had.pop(name, None)

    def _portion(self, names: Sequence[str], most: int, enough: int) -> Sequence[str]:
        """The first queues that had ``enough`` jobs together, ``most`` of them not known as empty."""
        jobs = read = 0
        for end, name in enumerate(names, 1):
            had = self._had.get(name)
            jobs, read = jobs + (had or 0), read + (had != 0)
            if read == most or jobs >= enough:
                return names[:end]
        return names

    def _parted(self, portion: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """Those to be asked all at once, and those to be read. A few empty ones are quickly read as well."""
        quiet = [name for name in portion if self._had.get(name) == 0]
        if len(quiet) <= FIRST_LOOK:
            return (), portion
        return quiet, [name for name in portion if self._had.get(name) != 0]

    def _wake(self, names: Sequence[str]) -> bool:
        for name in names:
            del self._had[name]
        return bool(names)

    def _note(self, name: str, payloads: list[bytes] | None) -> None:
        if payloads is None:
            self._had.pop(name, None)  # of a wrong type: it would always be there, and never have a job
        else:
            self._had[name] = len(payloads)
