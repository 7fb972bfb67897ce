"""Every check of the wire format has a test, and its number is in the test's name."""

from __future__ import annotations

import ast

from tests.conformance.conftest import CHECKS, check_number
from tests.support.processes import ROOT


def test_each_of_the_70_checks_has_a_test_that_carries_its_number() -> None:
    names = [
        node.name
        for path in sorted((ROOT / "tests/conformance").glob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]

    numbers = {check_number(name) for name in names} - {None}

    assert numbers == set(CHECKS)
