"""Makes named tuples in one step where each job needs some: their own constructors are Python functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

new: Callable[..., Any] = tuple.__new__
"""``new(Kind, fields)``: all fields in their order, also those that have a default."""
