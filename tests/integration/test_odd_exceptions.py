"""Errors that pickle cannot carry from a pool process keep their class and message in `retry` and `dead`.

`dead` showed `UnpickleableExceptionWrapper` under prefork.
"""

from __future__ import annotations

import json

import pytest

from tests.integration.test_user_settings import write
from tests.support.processes import ROOT
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

MODULE = """
from bridge import app

class TwoArguments(Exception):
    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")

class KeepsSocket(Exception):
    def __init__(self, text):
        super().__init__(text)
        import socket
        self.socket = socket.socket()

class KeepsLambda(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.code = lambda: None

class RefusesPickle(Exception):
    def __reduce__(self):
        raise RuntimeError("not to be pickled")

class ReducesWrongly(Exception):
    def __reduce__(self):
        return (int, ("x",))

class HoldsException(Exception):
    def __init__(self, text):
        super().__init__(text, KeepsLambda("inner"))
    def __str__(self):
        return self.args[0]

def local():
    class Local(Exception):
        pass
    return Local("own words")

ERRORS = {
    "TwoArguments": lambda: TwoArguments("own", "words"),
    "KeepsSocket": lambda: KeepsSocket("own words"),
    "KeepsLambda": lambda: KeepsLambda("own words"),
    "RefusesPickle": lambda: RefusesPickle("own words"),
    "ReducesWrongly": lambda: ReducesWrongly("own words"),
    "HoldsException": lambda: HoldsException("own words"),
    "Local": local,
}

@app.task(name="OddJob")
def odd(name):
    raise ERRORS[name]()
"""
#: Class and message of each.
SHOWN = {
    "TwoArguments": "own and words",
    **dict.fromkeys(
        ["KeepsSocket", "KeepsLambda", "RefusesPickle", "ReducesWrongly", "HoldsException", "Local"],
        "own words",
    ),
}


@pytest.mark.parametrize("pool", ["prefork", "bridge"])
@pytest.mark.parametrize(("where", "retry"), [("dead", 0), ("retry", 5)])
def test_an_error_that_cannot_be_pickled_keeps_its_class_and_message(
    bare_stage: Stage, pool: str, where: str, retry: int
) -> None:
    write(bare_stage.directory, odd_app=MODULE)
    path = f"{ROOT}:{bare_stage.directory}"
    worker = bare_stage.start_worker(module="odd_app", env={"PYTHONPATH": path, "BRIDGE_POOL": pool})

    for name in SHOWN:
        bare_stage.push_job({"class": "OddJob", "args": [name], "retry": retry})

    wait_until_equal(lambda: bare_stage.redis.zcard(where), len(SHOWN), f"the jobs in {where}")
    entries = [json.loads(entry) for entry in bare_stage.redis.zrange(where, 0, -1)]
    shown = {entry["args"][0]: (entry["error_class"], entry["error_message"]) for entry in entries}
    assert {name: found[1] for name, found in shown.items()} == SHOWN
    assert {name: found[0].rpartition(".")[2].rpartition("::")[2] for name, found in shown.items()} == {
        name: name for name in SHOWN
    }
    bare_stage.wait_counters(len(SHOWN), len(SHOWN))
    assert worker.terminate() == 0
