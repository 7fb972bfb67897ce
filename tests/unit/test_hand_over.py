from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bridge import errors
from bridge.execution import claimed_job
from bridge.execution.hand_over import hand_over
from bridge.execution.outcomes import Settle
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome.decision import Bury


def test_malformed_arguments_that_no_claim_has_read_bury_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client met them in the headers of a request. The job was given back until it was a poison pill."""
    monkeypatch.setattr(claimed_job, "require_lease", lambda *_: None)
    app: Any = SimpleNamespace(bridge=SimpleNamespace(sidecar=SimpleNamespace(has_sent=lambda _: False)))
    delivery = Delivery("host:1:aa", 1, "default", b'{"class":"A","args":[{]}', 0)

    def execute(_: Delivery) -> Any:
        raise errors.MalformedPayload("not JSON as Ruby reads it")

    with pytest.raises(Settle) as ended:
        hand_over(app, delivery, execute)
    decision = ended.value.sidekiq_decision
    assert isinstance(decision, Bury)
    assert (decision.payload, decision.ran) == (delivery.payload, False)
