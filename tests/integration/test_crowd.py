"""The simulated workers of ``benchmarks/crowd`` send Redis what real ones send."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import resources

import pytest
import redis

from benchmarks.loads import ID, Load
from benchmarks.peers.base import Peer, Setup
from benchmarks.peers.bridge import Bridge, Tuning
from benchmarks.peers.crowd import MOST, Crowd
from benchmarks.peers.sidekiq import Sidekiq
from benchmarks.roots import RubyRoot, matrix_folder
from benchmarks.site import Site, new_site
from bridge.sidekiq.store import lua
from tests.support.waiting import wait_for

ONE = Setup()
WARM_UP_JOBS, JOBS = 6, 5
#: A watch that takes, and its list.
TAKES = "BLMOVE queue:default bridge:arrived:ID:N:default"
#: The longest rhythm of a worker is 20 s, and one second more: what it does at all, it does within this time.
IDLE_SECONDS = 24.0
#: Commands of one job, whatever they are called: these keys are in them.
#: The renewal of a lease names bridge:arrived:ID alone, at any moment.
_OF_JOBS = re.compile(r"queue:default|bridge:arrived:ID:N|stat:processed")
#: A process does it once, or for each new connection: a Sidekiq process cleans up after dead ones. And the
#: run times of a flush: a job that takes less than a millisecond has none.
ONCE = re.compile(
    r"SET process_cleanup|SSCAN processes|HGET ID info|SCRIPT|HELLO|CLIENT SETNAME|HINCRBY .*\|ms"
)
_IDENTITY = re.compile(r"[\w.-]+:\d+:[0-9a-f]{12}")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')


def scripts() -> dict[str, str]:
    """SHA -> name, of all scripts of the product."""
    folder = resources.files(lua)
    names = [each.name.removesuffix(".lua") for each in folder.iterdir() if each.name.endswith(".lua")]
    return {lua.load(name).sha.decode(): name for name in names}


SCRIPTS = scripts()


#: Redis has told of all that came before.
THE_END = "ECHO the end"


class Monitor:
    """What Redis has executed, with identities, numbers and texts replaced."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._connection = client.connection_pool.make_connection()
        self._connection.connect()
        self._connection.send_command("MONITOR")
        self._connection.read_response()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def take(self) -> list[str]:
        """The commands since the last time; all that came before this call are among them."""
        self._client.echo("the end")
        return list(iter(lambda: self._lines.get(timeout=30), THE_END))

    def close(self) -> None:
        """End the thread."""
        self._connection.disconnect()

    def _read(self) -> None:
        try:
            while True:
                self._lines.put(shape(self._connection.read_response().decode()))
        except (redis.RedisError, OSError, ValueError, AttributeError):
            pass  # closed


def shape(line: str) -> str:
    """``BLMOVE queue:default bridge:arrived:ID:N:default RIGHT LEFT N``."""
    command, *words = _WORD.findall(line.partition("] ")[2])
    return " ".join([command.upper(), *map(_plain, words)])


def _plain(word: str) -> str:
    if word in SCRIPTS:
        return SCRIPTS[word]
    if len(word) == 40 and re.fullmatch("[0-9a-f]+", word):
        return "SCRIPT"
    if word.startswith(("{", "[", "<?", "eee")):
        return "TEXT"
    return re.sub(r"\d+(?:\.\d+)?", "N", _IDENTITY.sub("ID", re.sub("flushed:[0-9a-f]+", "flushed:X", word)))


class Watched:
    """One worker, real or simulated, and what it sends."""

    def __init__(self, peer: Peer, site: Site, monitor: Monitor) -> None:
        self._site, self._monitor = site, monitor
        self._key, self._template = peer.template(Load("noop"), "default")
        self._pushed = 0

    def push(self) -> None:
        """One job."""
        self._pushed += 1
        self._site.server.lpush(self._key, self._template.replace(ID, f"{self._pushed:024x}"))

    def push_some(self) -> None:
        """Bring a Sidekiq process to where it knows the class: counts and metrics go out with its beats."""
        for _ in range(WARM_UP_JOBS):
            self.push()
        wait_for(lambda: not self._site.server.exists(self._key), "the jobs to be taken", 10)

    def job(self) -> tuple[str, ...]:
        """The commands of one job, from its push until the worker rests, in order of their texts."""
        self._monitor.take()
        self.push()
        found: list[str] = []

        def is_settled() -> bool:
            found.extend(self._monitor.take())
            return any(line.startswith("INCRBY stat:processed:") for line in found)

        def is_over() -> bool:
            time.sleep(0.15)  # Redis tells of each command, and of no end
            found.extend(new := self._monitor.take())
            return not any(map(_OF_JOBS.search, new))

        wait_for(is_settled, "the settlement", 20)
        wait_for(is_over, "the worker to rest", 10)
        return tuple(sorted(line for line in found if _OF_JOBS.search(line) and not line.startswith("LPUSH")))

    def settle(self) -> None:
        """Bring a worker to where its watch takes, and Redis knows its scripts: two jobs cost the same."""
        before: list[tuple[str, ...]] = [()]

        def is_usual() -> bool:
            before.append(self.job())
            return before[-1] == before[-2] and before[-1][0].startswith(TAKES)

        wait_for(is_usual, "jobs that a watch takes", 60)

    def usual(self) -> list[str]:
        """The commands of most jobs: a round of the worker's own, every 15 s, may come beside one of them."""
        found = Counter(self.job() for _ in range(JOBS))
        ((commands, times),) = found.most_common(1)
        assert times > JOBS / 2, found
        return list(commands)

    def idle(self) -> Counter[str]:
        """What it sends in a while with one job at its beginning, whose metrics go out with a later beat."""
        self._monitor.take()
        self.push()
        time.sleep(IDLE_SECONDS)
        return Counter(self._monitor.take())


@contextmanager
def watched(*peers: Peer) -> Iterator[list[Watched]]:
    """These workers at once, each on a Redis of its own."""
    with ExitStack() as stack:
        found = []
        for peer in peers:
            site = stack.enter_context(new_site())
            stack.enter_context(peer.started(site, ONE))
            monitor = Monitor(site.server)
            stack.callback(monitor.close)
            found.append(Watched(peer, site, monitor))
        yield found


def at_once(calls: Sequence[Callable[[], Counter[str]]]) -> list[Counter[str]]:
    """Both fleets rest for as long: they may do so together."""
    found: dict[int, Counter[str]] = {}
    threads = [
        threading.Thread(target=lambda n=n, call=call: found.update({n: call()}))
        for n, call in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[n] for n in range(len(calls))]


def unlike(real: Counter[str], simulated: Counter[str]) -> dict[str, tuple[int, int]]:
    """Commands whose numbers differ by more than the moment of the first one explains."""
    return {
        each: (real[each], simulated[each])
        for each in real | simulated
        if not ONCE.match(each)
        and (
            abs(real[each] - simulated[each]) > 1 + 0.25 * max(real[each], simulated[each])
            or not (real[each] and simulated[each])
        )
    }


def test_a_simulated_worker_sends_what_a_real_one_sends() -> None:
    # Given a native worker, and a simulated one
    real_peer, simulated_peer = Bridge("real", None, 0, Tuning()), Crowd("simulated", "bridge")
    with watched(real_peer, simulated_peer) as (real, simulated):
        real.settle()
        simulated.settle()

        # When jobs come to an idle worker, then each costs the same commands
        assert simulated.usual() == (expected := real.usual())
        assert expected[0].startswith(TAKES)

        # And so does the worker without jobs
        assert unlike(*at_once([real.idle, simulated.idle])) == {}


def test_a_simulated_sidekiq_sends_what_a_real_one_sends() -> None:
    # Given Sidekiq 8.1 in its change-root, and a simulated process
    path = matrix_folder() / "sid"
    if not (path / "usr/bin/sidekiq").exists():
        pytest.skip("Sidekiq 8.1 is not there: scripts/conformance builds it")
    real_peer, simulated_peer = Sidekiq(RubyRoot(str(path), "8.1.7", "3.3")), Crowd("simulated", "sidekiq")
    with watched(real_peer, simulated_peer) as (real, simulated):
        real.push_some()
        simulated.push_some()

        real_idle, simulated_idle = at_once([real.idle, simulated.idle])

        # Then both wait, beat and look for due jobs alike
        assert unlike(real_idle, simulated_idle) == {}
        assert real_idle["BRPOP queue:default N"] > 100


def test_a_crowd_is_in_few_processes_and_settles_every_job() -> None:
    # Given more workers than one process carries
    peer, setup = Crowd("simulated", "bridge"), Setup(workers=MOST + 2, concurrency=2)
    with new_site() as site:
        key, template = peer.template(Load("noop"), "default")
        with peer.started(site, setup) as team:
            assert len(team.processes) == 2
            for number in range(300):
                site.server.lpush(key, template.replace(ID, f"{number:024x}"))
            wait_for(lambda: int(site.server.get("stat:processed") or 0) == 300, "all jobs", 20)

        # Then nothing is held, and the Busy page is empty
        assert site.server.scard("processes") == 0
        assert site.server.keys("bridge:inflight:*") == []
        assert site.server.keys("bridge:arrived:*") == []
