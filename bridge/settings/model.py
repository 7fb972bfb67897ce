"""Every setting: its type, unit, default and meaning. The README's table is generated from here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bridge.limits.declaration import Limit
from bridge.redis.address import RedisAddress
from bridge.settings import safe_sidecar, values
from bridge.settings.monitoring import Names, Text, number_as_text
from bridge.settings.redis_url import RedisUrl
from bridge.settings.results import Results
from bridge.sidekiq.fetch.queues import QueueSet
from bridge.sidekiq.outcome.dialect import MetricsFamily

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


def _redis_url(value: object) -> RedisUrl:
    return value if isinstance(value, RedisUrl) else RedisUrl.parse(str(value))


Url = Annotated[RedisUrl, PlainValidator(_redis_url)]
Queues = Annotated[QueueSet, PlainValidator(values.queues)]
SidecarUrls = Annotated[tuple[str, ...], PlainValidator(values.sidecar_urls)]
TimeLimits = Annotated[Mapping[str, float], PlainValidator(values.time_limits)]
Limits = Annotated[tuple[Limit, ...], PlainValidator(values.limits)]
Pool = Annotated[str, PlainValidator(values.pool)]
Backoff = Annotated[bool | float | None, PlainValidator(values.retry_backoff)]


class Settings(Results):
    """The settings of one worker. Every field can be given as ``BRIDGE_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix="BRIDGE_",
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        defer_build=False,
    )

    redis_url: Url = Field(
        RedisUrl.parse(DEFAULT_REDIS_URL),
        description="Sidekiq's Redis; REDIS_PROVIDER and REDIS_URL serve when it is unset. "
        "rediss:// and sentinels:// speak TLS.",
        examples=[
            "redis://:password@host:6379/0",
            "sentinel://host1:26379,host2:26379/mymaster/0",
            "unix:///run/redis.sock?db=0",
        ],
    )
    redis_url_file: Path | None = Field(
        None,
        description="File that holds the URL, instead of the URL.",
        examples=["/run/secrets/redis_url"],
    )
    redis_ca: Path | None = Field(
        None,
        description="File with the CA that signed the certificate of a rediss:// server.",
        examples=["/etc/ssl/redis-ca.pem"],
    )
    redis_cert: Path | None = Field(
        None, description="File with the client certificate for rediss://.", examples=["/etc/ssl/client.pem"]
    )
    redis_key: Path | None = Field(
        None, description="File with the key of the client certificate.", examples=["/etc/ssl/client-key.pem"]
    )
    sidecar_url: SidecarUrls = Field(
        ("http://127.0.0.1:9292",),
        description="The sidecars, separated by commas: http://, https:// or unix:///path.",
        examples=["http://127.0.0.1:9292", "unix:///run/sidecar.sock"],
    )
    sidecar_secret: SecretStr | None = Field(
        None,
        description="Secret shared with the sidecar; two during a rotation, separated by a comma.",
        examples=["(a long random text)"],
    )
    sidecar_secret_file: Path | None = Field(
        None,
        description="File that holds the secret, instead of the secret.",
        examples=["/run/secrets/sidecar"],
    )
    sidecar_ca: Path | None = Field(
        None,
        description="File with the CA that signed the certificate of an https:// sidecar.",
        examples=["/etc/ssl/sidecar-ca.pem"],
    )
    sidecar_client_cert: Path | None = Field(
        None,
        description="File with the client certificate for an https:// sidecar that asks for one.",
        examples=["/etc/ssl/worker.pem"],
    )
    sidecar_client_key: Path | None = Field(
        None, description="File with the key of that certificate.", examples=["/etc/ssl/worker-key.pem"]
    )
    pool: Pool = Field(
        "bridge",
        description="The pool when -P is absent: bridge (our own), or one of Celery's by its name.",
        examples=["bridge", "threads", "prefork"],
    )
    concurrency: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Jobs at once when -c is absent; Celery's default otherwise.",
        examples=["20"],
    )
    queues: Queues = Field(
        QueueSet(("default",), (0,)),
        description="Queues when -Q is absent: in strict order, or with weights.",
        examples=["critical,default", "critical:3,default:1"],
    )
    config: Path | None = Field(
        None,
        description="A YAML file with these names, or a Rails app's config/sidekiq.yml.",
        examples=["config/sidekiq.yml"],
    )
    imports: Names = Field(
        (),
        description="Modules with native tasks, separated by commas.",
        examples=["myapp.tasks,myapp.reports"],
    )
    time_limits: TimeLimits = Field(
        {},
        description="Seconds a job of a class may run, * for all others; its payload's time_limit beats it.",
        examples=["ReportJob:600,*:7200"],
    )
    limits: Limits = Field(
        (),
        description="Limits across all workers: how many jobs at once, or in a second; a list, or JSON.",
        examples=['[{"class": "SyncJob", "concurrency": 3, "key": "args.0"}]'],
    )
    shutdown_timeout_seconds: float = Field(
        25.0, ge=0, le=86_400, description="How long running jobs may go on after TERM.", examples=["25"]
    )
    lease_seconds: float = Field(
        15.0,
        ge=3,
        le=600,
        description="Seconds after which a silent worker's jobs are given back.",
        examples=["15"],
    )
    poll_interval_seconds: float = Field(
        1.0, gt=0, le=60, description="Longest wait between two looks for due or new jobs.", examples=["1"]
    )
    retry_backoff: Backoff = Field(
        None,
        description="Unset: Sidekiq's delays. true, or seconds to start from: Celery's exponential backoff.",
        examples=["true", "5"],
    )
    retry_backoff_max_seconds: int = Field(
        600, ge=1, description="Longest delay of Celery's exponential backoff.", examples=["600"]
    )
    retry_jitter: bool = Field(
        True, description="Whether Celery's exponential backoff is spread at random.", examples=["true"]
    )
    max_retries: int | None = Field(
        None,
        ge=0,
        description="Retries of jobs that say only retry: true; the sidecar's, else 25.",
        examples=["25"],
    )
    dead_max_jobs: int | None = Field(
        None,
        ge=1,
        description="Size of the dead set (one less stays); the sidecar's, else 10000.",
        examples=["10000"],
    )
    dead_timeout_seconds: int | None = Field(
        None,
        ge=1,
        description="Age at which dead jobs go; the sidecar's, else 180 days.",
        examples=["15552000"],
    )
    poison_pill_limit: int = Field(
        3,
        ge=0,
        le=1000,
        description="Deaths of its worker or sidecar in 72 hours, after which a job is buried; 0: never.",
        examples=["3"],
    )
    sidekiq_version: Text | None = Field(
        None,
        pattern=r"^\d+(\.\d+){1,2}$",
        description="Sidekiq version to work like; else the sidecar's, else that of other processes.",
        examples=["7.3.2"],
    )
    metrics_family: Annotated[MetricsFamily | None, BeforeValidator(number_as_text)] = Field(
        None, description="Whose Metrics page is written for: none, 7, 8 or both.", examples=["7"]
    )
    remote_control: bool = Field(
        True, description="Whether celery inspect and control reach this worker.", examples=["true"]
    )
    allow_purge: bool = Field(
        False, description="Whether celery purge -Q NAME may empty Sidekiq's queues.", examples=["false"]
    )

    @field_validator(
        "redis_ca", "redis_cert", "redis_key", "sidecar_ca", "sidecar_client_cert", "sidecar_client_key"
    )
    @classmethod
    def _is_there(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("the file does not exist")
        return path

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``bridge.settings.load`` gathered, which knows the place of each value."""
        return (init_settings,)

    @property
    def redis_address(self) -> RedisAddress:
        """Where Sidekiq's Redis is, as a client is made with it."""
        found = self.redis_url.address(self.redis_ca, self.redis_cert, self.redis_key)
        return self.with_sentinel_user(found)

    @property
    def has_sidecar(self) -> bool:
        """Whether a sidecar is configured. Without one, nothing is noted for Ruby."""
        return self.says("sidecar_url") or self.sidecar_secret is not None

    def require_safe_sidecar(self) -> None:
        """Refuse to send jobs in the clear or unsigned. Raises ConfigurationError.

        Not part of loading: ``celery inspect``, Flower and beat need no sidecar.
        """
        safe_sidecar.require(
            self.sidecar_url, self.source("sidecar_url"), has_secret=self.sidecar_secret is not None
        )
