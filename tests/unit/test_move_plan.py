"""The plan of a move: a signature from real arguments, and a skeleton that Python accepts."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from bridge.moves import values
from bridge.moves.signature import Arguments, signature
from bridge.moves.skeleton import skeleton


def written(samples: list[Arguments], ruby: list[list[str]] | None = None) -> str:
    return ", ".join(map(str, signature(samples, ruby or [])))


def of(*args: Any, **kwargs: Any) -> Arguments:
    return list(args), kwargs


@pytest.mark.parametrize(
    ("samples", "ruby", "expected"),
    [
        ([of(1, "a"), of(2, "b")], [], "arg1: int, arg2: str"),
        ([of(1), of(2, "b")], [], "arg1: int, arg2: str | None = None"),
        ([of(1), of(None)], [["req", "id"]], "id: int | None"),
        ([of(1), of(1.5)], [["req", "price"]], "price: float"),
        ([of([1, 2]), of([])], [["req", "ids"]], "ids: list[int] | list[Any]"),
        ([of({"a": 1})], [["req", "class"], ["opt", "x"]], "class_: dict[str, Any], x: Any = None"),
        ([of(True)], [["req", "_"], ["req", "_"]], "_: bool, arg2: Any"),
        ([of(1, 2, "x")], [["req", "id"], ["rest", "more"]], "id: int, *more: int | str"),
        ([of(1, at="x"), of(1)], [["req", "id"], ["key", "at"]], "id: int, at: str | None = None"),
        ([of(at="x")], [["keyreq", "at"], ["keyrest", "rest"]], "at: str, **more: Any"),
        ([], [["req", "id"], ["opt", "zone"]], "id: Any, zone: Any = None"),
        ([], [], ""),
    ],
)
def test_a_signature_takes_the_arguments_that_were_seen(
    samples: list[Arguments], ruby: list[list[str]], expected: str
) -> None:
    assert written(samples, ruby) == expected


@pytest.mark.parametrize(
    "samples",
    [
        [of(1, "x", at=datetime.now(UTC), amount=Decimal(1))],
        [of(), of(1), of(1, [2], {"a": None})],
        [of(**{"not-a-name": 1, "for": 2})],
    ],
)
def test_a_skeleton_is_a_task_that_takes_them(samples: list[Arguments]) -> None:
    text = skeleton("Billing::InvoiceJob", signature(samples), {"queue": "low", "retry": 3, "lock": "x"})

    made: dict[str, Any] = {}

    class App:
        def task(self, **given: Any) -> Any:
            made.update(given)
            return lambda code: made.update(code=code)

    source = text.replace("from bridge import app", "")
    exec(compile(source, "skeleton.py", "exec"), {"app": App()})
    assert made["name"] == "Billing::InvoiceJob"
    assert made["sidekiq_options"] == {"queue": "low", "retry": 3}
    for args, kwargs in samples:
        inspect.signature(made["code"]).bind(None, *args, **kwargs)
        with pytest.raises(NotImplementedError):
            made["code"](None, *args, **kwargs)


def test_arguments_that_mean_something_else_in_python_are_named() -> None:
    samples = [of("gid://shop/Order/1", 2**60), of({"_aj_serialized": "Own", "value": 1}), of(1)]
    seen = [text for _, text, _ in values.surprises(samples, signature(samples))]
    assert seen == [
        "jobs have 1 to 2 of them",
        "arg1 is of several types: str | dict[str, Any] | int",
        "records (GlobalID) come as their text, gid://app/Order/1",
        "a serializer of the app's own wrote some of them",
        "some integers have more than 53 bits",
    ]
