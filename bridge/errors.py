"""Every error this project raises, as one tree.

::

    BridgeError
    ├── ConfigurationError      a setting is wrong; the message says which, and what to write instead
    │   └── RedisRefusal        Redis answers and refuses this user or password
    ├── StoreError
    │   └── StoreUnavailable    Redis cannot be reached, is loading, read-only or full: try again later
    ├── PayloadError
    │   ├── MalformedPayload    not JSON, to Ruby's parser: Sidekiq buries the bytes as they are
    │   └── InvalidPayload      JSON, but not an object: buried inside an object that stays readable
    ├── MoveConflict            two commands changed one move at the same moment
    ├── PushRefused             a message that Sidekiq has no place for (kwargs, chain, priority, ...)
    │   └── BatchRefused        a batch that cannot take jobs: it is finished, forgotten, or Redis evicts
    ├── ResultError             a result cannot be had
    │   ├── NotTracked          the job is not tracked: nothing will be written about its end
    │   ├── ResultUnknown       Redis knows neither a result nor a job of this jid
    │   ├── ResultLost          the job is done, and its result could not be stored
    │   └── JobFailed           the job is dead; each class of its errors has a subclass with its name
    └── SidecarError
        ├── SidecarUnavailable  not reached, draining, booting or full: an outage, never a spent attempt
        ├── SidecarRejected     wrong secret, wrong protocol: stop fetching and say so
        ├── OutcomeUnknown      the reply is missing, cut or garbage: the job may have run
        ├── JobSuperseded       a newer delivery of this job exists: drop this one silently
        └── JobRefused          the sidecar will not run this class or this body: bury it with the reason
"""

#: Exit status of a configuration error (sysexits.h): no restart helps until a person has put it right.
EX_CONFIG = 78
#: Exit status where Redis refuses this user or password: a restart helps when the new password arrives late.
EX_NOPERM = 77
#: Exit status of a worker that has lost too many slots: another is to be started.
EX_SOFTWARE = 70


class BridgeError(Exception):
    """Base of all errors of Sidekiq Bridge."""


class ConfigurationError(BridgeError):
    """A setting is wrong. The message names it, its value, and what to write instead."""


class RedisRefusal(ConfigurationError):
    """Redis answers and refuses this user or password. The message names where they were written."""


class StoreError(BridgeError):
    """Base of what the job store (Redis) reports."""


class StoreUnavailable(StoreError):
    """Redis cannot answer at the moment; nothing was lost, the caller tries again."""


class PayloadError(BridgeError):
    """Base of what can be wrong with bytes found in a queue or a set."""


class MalformedPayload(PayloadError):
    """The bytes are not JSON as Ruby's parser understands it."""


class InvalidPayload(PayloadError):
    """The bytes are JSON but no job: Sidekiq itself would lose them or break its own pages."""


class MoveConflict(BridgeError):
    """Two processes changed the move of one class at the same moment; this one has written nothing."""


class PushRefused(BridgeError, ValueError):
    """A message that cannot be written as a Sidekiq job; the text says what to use instead."""


class BatchRefused(PushRefused):
    """The batch takes no jobs; the text says why, and what to do instead. Nothing was pushed."""


class ResultError(BridgeError):
    """A result cannot be had. The message names the jid, and says what to do."""


class NotTracked(ResultError, NotImplementedError):
    """Nothing is written about the end of this job. Celery raises NotImplementedError without a backend."""


class ResultUnknown(ResultError, LookupError):
    """Redis knows neither a result nor a waiting or running job of this jid."""


class ResultLost(ResultError):
    """The job is done. Its result is too large, or JSON cannot hold it."""


class JobFailed(ResultError):
    """The job is dead. The class of its own error, which this process does not know, has a subclass."""


class SidecarError(BridgeError):
    """Base of what can go wrong between the worker and the sidecar."""


class SidecarUnavailable(SidecarError):
    """The sidecar could not take the job: the job was not started and no attempt is spent."""

    def __init__(
        self, message: str, retry_after_seconds: float | None = None, *, may_run: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.may_run = may_run
        """Whether a request that was sent before may still reach the sidecar and begin the job."""


class SidecarRejected(SidecarError):
    """The sidecar refuses this worker (secret, protocol): fetching must stop until it is put right."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code
        """The sidecar's own word for it: ``signature``, ``timestamp``, ``protocol``, ..."""


class OutcomeUnknown(SidecarError):
    """The job may or may not have run: it is given back and counted as recovered.

    ``rejected``: the reply refuses this worker, and no signature proves who wrote it.
    """

    def __init__(self, message: str, *, rejected: bool = False) -> None:
        super().__init__(message)
        self.rejected = rejected


class JobSuperseded(SidecarError):
    """A newer delivery owns this job; whatever this one does is fenced."""


class JobRefused(SidecarError):
    """The sidecar will never run this job (class not allowed, too large, malformed)."""

    def __init__(self, message: str, *, malformed: bool = False) -> None:
        super().__init__(message)
        self.malformed = malformed
