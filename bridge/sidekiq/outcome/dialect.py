"""Which Sidekiq this worker works beside: the units, rules and limits that differ between 6, 7 and 8.

Known from the sidecar's ``/health``, else from other processes' rows, else assumed: float seconds, which
every version reads.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from bridge.sidekiq.outcome.decision import POISON_PILL_LIMIT, DeadLimits
from bridge.sidekiq.outcome.retry import DEFAULT_MAX_RETRIES, Family, RetryRules
from bridge.sidekiq.payload.timestamps import Timestamps

#: Reported on the Busy page while no version is known.
UNKNOWN_VERSION = ""
_DEFAULT_LIMITS = DeadLimits()


class MetricsFamily(enum.Enum):
    """Whose Metrics page is written for; Sidekiq 6 has none."""

    NONE = "none"
    SEVEN = "7"
    EIGHT = "8"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Overrides:
    """The values of the settings, which beat the detected ones. None: not set."""

    version: str | None = None
    max_retries: int | None = None
    dead_max_jobs: int | None = None
    dead_timeout_seconds: int | None = None
    metrics_family: MetricsFamily | None = None
    poison_pill: int = POISON_PILL_LIMIT


@dataclass
class Dialect:
    """The current answer; replaced as a whole when more is known. Read by many threads."""

    overrides: Overrides = field(default_factory=Overrides)
    tells_ruby: bool = False
    """Whether a sidecar is configured, which is told of ends outside of Ruby."""
    error_handlers: bool | None = None
    """Whether the app has error handlers of its own. None: no sidecar has said it."""

    def __post_init__(self) -> None:
        self.version = self.overrides.version or UNKNOWN_VERSION
        self.rules = self._rules(DEFAULT_MAX_RETRIES, DeadLimits())

    def learn(
        self,
        version: str,
        max_retries: int = DEFAULT_MAX_RETRIES,
        limits: DeadLimits = _DEFAULT_LIMITS,
        error_handlers: bool | None = None,
    ) -> None:
        """A Sidekiq of this version works on this Redis."""
        if error_handlers is not None:
            self.error_handlers = error_handlers
        self.version = self.overrides.version or version
        self.rules = self._rules(max_retries, limits)

    def assume_error_handlers(self, found: bool) -> None:
        """An earlier answer of a sidecar, which holds until one answers this process."""
        self.error_handlers = found
        self.rules = replace(self.rules, tells_errors=self.tells_ruby and found)

    @property
    def timestamps(self) -> Timestamps:
        """Unit of new timestamps."""
        return self.rules.timestamps

    @property
    def dead_limits(self) -> DeadLimits:
        """Trims of the dead set."""
        return self.rules.dead_limits

    @property
    def metrics(self) -> MetricsFamily:
        """Whose Metrics page is written for; both while no version is known."""
        if self.overrides.metrics_family is not None:
            return self.overrides.metrics_family
        if not self.version:
            return MetricsFamily.BOTH
        major = self._major
        if major < 7:
            return MetricsFamily.NONE
        return MetricsFamily.SEVEN if major == 7 else MetricsFamily.EIGHT

    @property
    def _major(self) -> int:
        head = self.version.split(".", 1)[0]
        return int(head) if head.isdigit() else 7

    def _rules(self, max_retries: int, limits: DeadLimits) -> RetryRules:
        said = self.overrides
        return RetryRules(
            family=Family.of(self.version) if self.version else Family.SEVEN,
            timestamps=Timestamps.MILLISECONDS if self._major >= 8 else Timestamps.SECONDS,
            max_retries=max_retries if said.max_retries is None else said.max_retries,
            dead_limits=DeadLimits(
                limits.max_jobs if said.dead_max_jobs is None else said.dead_max_jobs,
                limits.timeout_seconds if said.dead_timeout_seconds is None else said.dead_timeout_seconds,
                said.poison_pill,
            ),
            tells_deaths=self.tells_ruby,
            tells_errors=self.tells_ruby and bool(self.error_handlers),
        )
