from __future__ import annotations

from pathlib import Path

import pytest

from bridge.settings import modules


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"shop": "import no_such_library_of_the_shop", "stall": ""}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["json", "stall", "xml.dom"])
def test_a_module_that_is_there_is_found(name: str) -> None:
    assert modules.find(name)


@pytest.mark.parametrize("name", ["no_such_module", "no_such_package.tasks", "stall.tasks", "not a name."])
def test_a_module_that_is_not_there_is_not_found(name: str) -> None:
    assert not modules.find(name)


def test_what_is_missing_inside_of_a_package_is_not_taken_for_the_package() -> None:
    """The worker said that ``shop.tasks`` was no module, where the shop's own import failed."""
    assert modules.find("shop.tasks")
