from __future__ import annotations

import dis
from typing import Any

import pytest
from celery.worker.request import Request

from bridge.execution.request import SidekiqRequest
from bridge.fast_path import on_demand
from bridge.fast_path.request import LazyRequest


@on_demand.of_celery
class Asked:
    """An object whose fields are filled in at once."""

    is_full = False
    fills = 0

    def fill(self) -> None:
        self.fills += 1
        self._body = "filled in"


def test_all_fields_that_celerys_constructor_sets_are_on_demand() -> None:
    """Given any release of Celery, no control command meets a field that is not there yet."""
    set_by_celery = {
        step.argval for step in dis.get_instructions(Request.__init__) if step.opname == "STORE_ATTR"
    }
    own = {"id", "name", *vars(SidekiqRequest)}
    assert set_by_celery - own <= set(on_demand.NAMES)
    assert all(isinstance(vars(LazyRequest)[name], on_demand.OnDemand) for name in on_demand.NAMES)


def test_a_field_that_is_read_fills_in_all_of_them_once() -> None:
    asked: Any = Asked()
    assert asked._body == "filled in"
    assert asked._body == "filled in"
    assert asked.fills == 1


def test_a_field_that_was_not_filled_in_is_missing_as_any_attribute_is() -> None:
    asked: Any = Asked()
    with pytest.raises(AttributeError, match="_args"):
        _ = asked._args
    assert not hasattr(asked, "_kwargs")


def test_no_request_pays_for_its_fields_at_each_attribute() -> None:
    """``__getattr__`` was a fifteenth of a no-op job's CPU: Python then looks up each attribute slowly."""
    assert not hasattr(LazyRequest, "__getattr__")
