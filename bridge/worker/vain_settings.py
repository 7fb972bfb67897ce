"""Celery's settings that have no effect here, and what to write instead."""

from __future__ import annotations

_RESULTS = "the results of tracked jobs are JSON in Sidekiq's Redis"
_OWN_LINES = "write BRIDGE_LOG_FORMAT, or worker_hijack_root_logger = False for a logging of your own"
_NO_AMQP = "Sidekiq's queues are lists"
#: Settings without an effect, by name or (with _ at its end) by beginning, with what to write instead.
IN_VAIN = {
    "broker_use_ssl": "write rediss:// in BRIDGE_REDIS_URL, and BRIDGE_REDIS_CA, _CERT and _KEY",
    **dict.fromkeys(
        ["broker_host", "broker_port", "broker_user", "broker_password", "broker_vhost", "broker_transport"],
        "write BRIDGE_REDIS_URL",
    ),
    **dict.fromkeys(
        ["broker_login_method", "broker_heartbeat", "broker_heartbeat_checkrate", "broker_failover_strategy",
         "broker_native_delayed_", "worker_detect_quorum_queues"],
        _NO_AMQP,
    ),
    **dict.fromkeys(
        ["task_default_delivery_mode", "task_create_missing_queue_", "task_default_queue_type"],
        _NO_AMQP,
    ),
    **dict.fromkeys(["control_queue_", "event_queue_"], "a broadcast has no queue"),
    **dict.fromkeys(
        ["result_", "redis_", "database_", "mongodb_", "cassandra_", "couchbase_", "elasticsearch_", "s3_",
         "gcs_", "arangodb_", "azureblockblob_", "cosmosdbsql_", "cache_", "task_store_",
         "task_remote_tracebacks", "worker_deduplicate_"],
        _RESULTS,
    ),
    **dict.fromkeys(
        ["worker_log_format", "worker_log_datefmt", "worker_log_color", "worker_task_log_format",
         "worker_task_log_datefmt", "worker_redirect_stdouts", "worker_redirect_stdouts_level"],
        _OWN_LINES,
    ),
    **dict.fromkeys(
        ["broker_connection_retry", "broker_channel_error_retry", "broker_connection_timeout"],
        "a worker that has started waits for a Redis that is away",
    ),
    "worker_cancel_long_running_tasks_on_connection_loss": "running jobs go on when Redis is away",
    **dict.fromkeys(
        ["worker_enable_prefetch_count_reduction", "worker_disable_prefetch"],
        "a job leaves its queue only for a slot that is free",
    ),
    "worker_state_db": "a revoke removes the waiting job at once, and no worker has a list of revoked jobs",
    "worker_enable_soft_shutdown_on_idle": "write BRIDGE_SHUTDOWN_TIMEOUT_SECONDS",
    "task_protocol": "a push writes Sidekiq's payload",
    **dict.fromkeys(["task_queue_max_priority", "task_inherit_parent_priority"], "a queue has no priorities"),
    "worker_eta_task_limit": "jobs with an eta wait in the schedule set, not in a worker",
}  # fmt: skip
#: Refused, or merged with ours.
_JUDGED_ELSEWHERE = ("result_backend", "result_accept_content", "result_expires", "result_cache_max")


def reason(name: str) -> str | None:
    """Why a setting has no effect; None for one that has."""
    if name in _JUDGED_ELSEWHERE:
        return None
    begins = (start for start in IN_VAIN if start.endswith("_") and name.startswith(start))
    return IN_VAIN.get(name) or IN_VAIN.get(next(begins, ""))
