"""The life of one run: claimed, performed, then finished, failed or released.

* Claimed: ``SidekiqRequest`` represents one delivery, and a pool slot begins it (``request.py``).
* Performed: ``SidekiqTask`` runs the task's code (``task.py``), a Ruby job in the sidecar.
* Finished: the code returns, Celery acknowledges, and ``Fetcher.settle`` writes ``Done``.
* Failed: ``SidekiqTask.retry`` decides, and ``SidekiqRequest.on_failure`` records the decision.
* Released: ``Settle`` carries a ``GiveBack`` out of the run (``outcomes.py``).

``Cancellation`` and ``TimeLimits`` end a run before its own end.
"""
