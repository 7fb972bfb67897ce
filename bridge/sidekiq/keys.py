"""Every Redis key, in one place.

Sidekiq's own keys follow the gem (6.4 to 8.1); keys of the bridge start with ``bridge:`` and match neither
``queue:*`` (Sidekiq Pro scans such lists) nor anything that Sidekiq's Web UI lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

QUEUES = "queues"
SCHEDULE = "schedule"
RETRY = "retry"
DEAD = "dead"
PROCESSES = "processes"
PAUSED = "paused"
PROCESSED = "stat:processed"
FAILED = "stat:failed"

LEASE = "bridge:lease"
#: Exists while a sidecar may remember an orphaned job: then claims look at the counters.
RECOVERING = "bridge:recovering"
#: What Ruby is to be told of jobs that ended outside of Ruby, newest first.
NOTICES = "bridge:notices"
#: Hash of notices that a worker is about to tell: id to the end of that time in ms, tries, and Puma worker.
TELLING = "bridge:telling"
#: Exists while the app has error handlers of its own, as a sidecar said last.
ERROR_HANDLERS = "bridge:error-handlers"
#: Workers renew it each day.
ERROR_HANDLERS_TTL_SECONDS = 7 * 86_400
#: How many notices were dropped since a worker asked last.
NOTICES_DROPPED = "bridge:notices-dropped"
#: Sorted set of the tracked jobs that changed last: jid to epoch seconds. Bounded.
RESULTS = "bridge:results"
#: Set of the classes that workers track, for processes that know only a jid. Workers renew it.
TRACKED = "bridge:tracked"

#: Sorted set of the batches: bid to the time in s from which on it may be forgotten.
BATCHES = "bridge:batches"
#: Redis forgets a batch that nothing has moved for that time.
BATCH_TTL_SECONDS = 30 * 86_400
#: Hash of what each living process declares: identity to a JSON list of limits.
LIMITS = "bridge:limits"
#: Sorted set of the gates at which jobs wait: ``<limit>:<key>`` to the TIME in s at which a worker looks.
WAITING = "bridge:waiting"
#: Claims whose worker has not asked for the places of their jobs yet, and facts about lines.
CLAIMING, LINES = "bridge:claiming", "bridge:lines"

#: Hash of the classes that move from Ruby to Python: class to a JSON object.
MOVES = "bridge:moves"

#: Set of the processes that take part in the limits of sidekiq-limit_fetch.
LIMIT_FETCH_PROCESSES = "limit:processes"

QUEUE_PREFIX = "queue:"
RECOVERED_PREFIX = "bridge:recovered:"
FENCE_PREFIX = "bridge:fence:"
ARRIVED_PREFIX = "bridge:arrived:"
REPLY_PREFIX = "bridge:reply:"
RESULT_PREFIX = "bridge:result:"

#: A network delivers no claim later than that: TCP gives up after minutes, a proxy after hours.
FENCE_TTL_SECONDS = 86_400

#: The network delivers the last command of a closed connection within that: TCP gives up after minutes. The
#: clock of Redis may be set meanwhile, from an hour behind to an hour ahead.
ARRIVED_FENCE_TTL_SECONDS = 3 * 3600

#: A flush of job metrics is repeated, or comes late, within that time.
FLUSHED_TTL_SECONDS = 86_400

#: Sidekiq keeps the daily counters for five years.
STAT_TTL_SECONDS = 157_680_000


def queue(name: str) -> str:
    """The list that holds a queue's jobs, newest at the head."""
    return QUEUE_PREFIX + name


def queue_of(key: str) -> str:
    """The queue whose list this key is."""
    return key.removeprefix(QUEUE_PREFIX)


def processed_on(date: str) -> str:
    """Counter of one UTC day; ``date`` is ``YYYY-MM-DD``."""
    return f"{PROCESSED}:{date}"


def failed_on(date: str) -> str:
    """Counter of one UTC day; ``date`` is ``YYYY-MM-DD``."""
    return f"{FAILED}:{date}"


def work(identity: str) -> str:
    """Running jobs of a process, as Sidekiq 6.4.2 and later read them."""
    return f"{identity}:work"


def workers(identity: str) -> str:
    """Running jobs of a process, as Sidekiq 6.4.0 and 6.4.1 read them."""
    return f"{identity}:workers"


def signals(identity: str) -> str:
    """List of signals (``TSTP``, ``TERM``, ``TTIN``) that the Web UI sends to a process."""
    return f"{identity}-signals"


def fence(identity: str) -> str:
    """The first token under which this worker may still claim; there after a connection was cut."""
    return FENCE_PREFIX + identity


def move_runs(job_class: str, since_ms: int) -> str:
    """Hash with the runs of a class that moves, by side, since the counts began."""
    return f"bridge:moves:runs:{since_ms}:{job_class}"


def move_minute(time: datetime) -> str:
    """Hash with the runs of one UTC minute in workers of the bridge, by class; of classes that move."""
    return f"bridge:moves:minute:{time:%Y%m%d%H%M}"


def move_differences(job_class: str) -> str:
    """List of the differences that shadow runs of a class have found, newest first."""
    return f"bridge:moves:differences:{job_class}"


def flushed(process: str) -> str:
    """Number of the last flush of job metrics that one process has made."""
    return f"bridge:flushed:{process}"


def iteration(jid: str) -> str:
    """Hash with the state of an iterable job (Sidekiq 7.3 and later)."""
    return f"it-{jid}"


def inflight(identity: str) -> str:
    """Hash of what one worker holds: delivery token to version, queue and payload."""
    return f"bridge:inflight:{identity}"


def arrived(identity: str) -> str:
    """Set of the watches of one worker that take jobs, each as ``<number>:<queue>``."""
    return ARRIVED_PREFIX + identity


def arrived_list(identity: str, watch: str) -> str:
    """List of the jobs that Redis has moved to one of these watches, the newest at the head."""
    return f"{ARRIVED_PREFIX}{identity}:{watch}"


def unbegun(identity: str) -> str:
    """Set of the tokens of claimed jobs that have not begun and wait for their time."""
    return f"bridge:unbegun:{identity}"


def gate(line: str) -> tuple[str, str, str, str]:
    """The four keys of one limit for one key, ``<limit>:<key>``.

    Sorted sets of its places in use, of places reserved for jobs on their way, and of waiting jobs; and a
    list of the time of the next start that its rate allows, and of the last starts.
    """
    kinds = ("places", "reserved", "waiting", "starts")
    places, reserved, waiting, starts = (f"bridge:{kind}:{line}" for kind in kinds)
    return places, reserved, waiting, starts


def recovered(jid: str) -> str:
    """Counter of how often a job was found in a dead worker's hands (72 h)."""
    return RECOVERED_PREFIX + jid


def result(jid: str) -> str:
    """Hash with the state and the result of one tracked job. A channel of this name tells of changes."""
    return RESULT_PREFIX + jid


def searching(jid: str) -> str:
    """Lock of the one process that looks for a job which is to be revoked (10 s)."""
    return f"bridge:searching:{jid}"


def reply(queue_name: str) -> str:
    """List that carries the replies to one remote control command."""
    return REPLY_PREFIX + queue_name


def metrics_minute_7(time: datetime) -> str:
    """Counts of one UTC minute for Sidekiq 7: ``j|20250204|8:3``."""
    return f"j|{time:%Y%m%d}|{time.hour}:{time.minute}"


def metrics_minute_8(time: datetime) -> str:
    """Counts of one UTC minute for Sidekiq 8: ``j|250204|8:03``."""
    return f"j|{time:%y%m%d}|{time.hour}:{time:%M}"


def metrics_ten_minutes_8(time: datetime) -> str:
    """Counts of ten UTC minutes for Sidekiq 8: ``j|250204|8:0``."""
    return metrics_minute_8(time)[:-1]


def histogram_7(job_class: str, time: datetime) -> str:
    """Histogram of one UTC minute for Sidekiq 7: ``HardJob-04-08:3``."""
    return f"{job_class}-{time:%d-%H}:{time.minute}"


def histogram_8(job_class: str, time: datetime) -> str:
    """Histogram of one UTC minute for Sidekiq 8: ``h|HardJob-4-8:3``."""
    return f"h|{job_class}-{time.day}-{time.hour}:{time.minute}"


def batch(bid: str) -> str:
    """Hash of one batch: its counts, its callbacks, and when they were pushed."""
    return f"bridge:batch:{bid}"


def batch_jobs(bid: str) -> str:
    """Hash of what a batch waits for: jid, or ``batch:<bid>`` of a child, to w, f or d."""
    return f"bridge:batch:{bid}:jobs"


def group(group_id: str) -> str:
    """The jids of a group of Celery's that a program saved."""
    return f"bridge:group:{group_id}"


def batch_push(token: str) -> str:
    """Number of the last slice of jobs that one push into a batch has written (1 h)."""
    return f"bridge:batch-push:{token}"


def limit_fetch(queue_name: str) -> tuple[str, ...]:
    """The keys of sidekiq-limit_fetch for one queue: places, busy processes, limit, process limit, pause."""
    return tuple(
        f"limit_fetch:{kind}:{queue_name}" for kind in ("probed", "busy", "limit", "process_limit", "pause")
    )


def limit_fetch_heartbeat(process: str) -> str:
    """Exists while a process takes part in the limits of sidekiq-limit_fetch."""
    return f"limit:heartbeat:{process}"
