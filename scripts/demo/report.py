"""The output of the demo: a line of progress, and a summary of things to look at."""

from typing import TextIO

from scripts.demo.outcome import DEAD, Job, table
from scripts.demo.place import FLOWER_USER, Place


class Progress:
    """One line that changes in place on a terminal; elsewhere a new line for each change."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._in_place = output.isatty()
        self._last = ""

    def show(self, line: str) -> None:
        if line == self._last:
            return
        self._output.write(f"\r\033[K{line}" if self._in_place else f"{line}\n")
        self._output.flush()
        self._last = line

    def end(self) -> None:
        if self._in_place:
            self._output.write("\n")


def addresses(place: Place, *, bridge: bool) -> str:
    """Where to look, before the first job runs."""
    lines = [
        "",
        f"  Demo app         {place.web_url}/          enqueues more, shows the ledger",
        f"  Sidekiq Web UI   {place.web_url}/sidekiq   Busy: {place.web_url}/sidekiq/busy",
    ]
    if bridge:
        lines += [
            f"  Flower           {place.flower_url}/",
            f"                   user {FLOWER_USER}, password {place.flower_password}",
            f"  Metrics          {place.metrics_url}",
        ]
    lines += [
        f"  Redis            {_without_password(place.redis_url)}",
        f"  Workers' log     {place.logs}/worker.log, with the sidecar's lines",
    ]
    if bridge:
        lines.append(
            f"  By hand          . {place.by_hand}   then: bridge status, bridge doctor, celery -A bridge ..."
        )
    return "\n".join([*lines, ""])


def summary(place: Place, jobs: list[Job], *, hints: bool) -> str:
    """How each job ended, and what to try next."""
    wrong = sum(not job.as_expected for job in jobs)
    verdict = "every job ended as expected" if not wrong else f"{wrong} did NOT end as expected"
    parts = [f"\n{len(jobs)} jobs, {verdict}:\n", table(jobs)]
    if hints:
        parts += ["", _what_to_look_at(place, jobs)]
    return "\n".join(parts)


def _what_to_look_at(place: Place, jobs: list[Job]) -> str:
    dead = sorted({job.job_class for job in jobs if job.actual == DEAD})
    return f"""What to look at:
  Web UI, Busy        the bridge's workers are there as Sidekiq processes; Quiet and Stop work
  Web UI, Retries     enqueue again and watch FlakyJob fail, wait and succeed
  Web UI, Dead        {", ".join(dead)}:
                      each with its Ruby error; press Retry
  Web UI, Scheduled   a LedgerJob that waits for six hours; "Add to queue" runs it now
  every 20 seconds    celery beat enqueues a LedgerJob for Ruby and a ReportJob for Python
  bridge moves        StatementJob moves to Python: 20 % of its jobs ran there, the others in Ruby
  Flower, Tasks       the same jobs under their Ruby names; ReportJob ran in Python
  by hand             . {place.by_hand}
                      celery -A bridge inspect active
  the workers' log    tail -f {place.logs}/worker.log
Ctrl-C stops all of it."""


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
