from __future__ import annotations

import json

import pytest

from scripts.vulnerabilities import Audit

SKIPPED = {"name": "vine", "skip_reason": "Dependency not found on the index"}
SOUND = {"name": "celery", "version": "5.7.0", "vulns": []}
FLAW = {"id": "PYSEC-2021-1", "fix_versions": ["1.2.3"], "aliases": [], "description": "..."}


def audit(*packages: object) -> Audit:
    return Audit.read(json.dumps({"dependencies": packages, "fixes": []}))


def test_a_flaw_is_named_with_the_release_that_corrects_it() -> None:
    found = audit(SOUND, {"name": "x", "version": "1.0", "vulns": [FLAW, {"id": "Y-2", "fix_versions": []}]})
    assert found.found == (
        "x 1.0: PYSEC-2021-1, corrected in 1.2.3",
        "x 1.0: Y-2, corrected in no release yet",
    )
    assert found.looked_at == 2


def test_packages_that_the_service_does_not_know_count_as_not_looked_at() -> None:
    assert audit(SKIPPED, SKIPPED) == Audit((), 0, 2)


@pytest.mark.parametrize("text", ["", "connection refused", "[]", "{}"])
def test_an_answer_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Audit.read(text)
