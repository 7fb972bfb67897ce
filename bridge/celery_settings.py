"""Celery's settings, each with its reason. ``bridge.celery`` adds what the environment says."""

#: A job is settled when its run has ended, never when it begins: a crash must leave it in flight.
task_acks_late = True
#: The ack settles what was recorded; failure and retry are decided before it.
task_acks_on_failure = True
task_acks_on_timeout = True
#: Celery would requeue without counting; a lost process is recorded as an unknown outcome instead.
task_reject_on_worker_lost = False
#: Seconds in which the result of a dead pool process may still come. It is in the pipe by then; Celery's 10 s
#: would only keep the job waiting.
worker_lost_wait = 1.0
#: A slot is free before a job leaves its queue; nothing is hoarded.
worker_prefetch_multiplier = 1

#: After a reconnect Celery would take fewer jobs than there are slots. The fetcher counts what it holds.
worker_enable_prefetch_count_reduction = False

#: The pool when -P is absent: our own, which parks Ruby jobs without a thread for each and runs native ones
#: in threads.
#: ``-P threads``, ``prefork``, ``gevent`` and ``solo`` work as with any Celery app.
worker_pool = "bridge.concurrency.hybrid:HybridPool"
#: Celery's own, with a shorter way for each message.
worker_consumer = "bridge.worker.consumer:JobConsumer"
#: The slots follow the pool's size; a job leaves its queue only for a slot that is there.
worker_autoscaler = "bridge.worker.autoscaler:Autoscaler"
#: Flower and `celery events` see every job without a flag.
worker_send_task_events = True
#: Sidekiq's Web UI speaks of queues, not of exchanges; what is named by -Q exists.
task_create_missing_queues = True
task_default_queue = "default"

#: A claimed job's body is an object, a pushed job's body holds only what JSON (and Ruby) can. Pickle is never
#: read.
task_serializer = "sidekiq"
accept_content = ["application/x-sidekiq-args", "application/json"]
result_accept_content = ["application/json"]
event_serializer = "json"
#: Results are opt-in (``track=True``), and in Sidekiq's Redis.
task_ignore_result = True
result_backend = None

#: Outages are waited for inside the transport; only the very first connection is Celery's to repeat.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
broker_channel_error_retry = True
#: A running job goes on when Redis is away; its settlement is repeated until Redis has it.
worker_cancel_long_running_tasks_on_connection_loss = False

#: Sidekiq's own log lines (start, done, fail) replace Celery's; stdout stays what jobs print.
worker_redirect_stdouts = False
