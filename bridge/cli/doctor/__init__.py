"""``bridge doctor``: looks for what is wrong between Redis, Sidekiq, sidecar, worker and machine.

Each check is a function from the :class:`~bridge.cli.doctor.site.Site` to findings; each finding says what is
seen and what to do about it. The doctor changes nothing.
"""
