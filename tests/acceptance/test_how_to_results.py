"""The pages about results: each block is a file of an app, or a program whose last value the page names."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_results import client
from tests.support.doc_blocks import Block, blocks
from tests.support.processes import ROOT
from tests.support.sidecar_process import JOBS
from tests.support.stage import Stage

CHAIN = "docs/how-to/chain-ruby-and-python.md"
#: Each page, and the one that has the files of its app.
PAGES = {
    "docs/how-to/get-an-answer-from-python-in-rails.md": "docs/how-to/get-an-answer-from-python-in-rails.md",
    "docs/how-to/show-a-progress-bar.md": "docs/how-to/show-a-progress-bar.md",
    CHAIN: CHAIN,
    "docs/results.md": CHAIN,
}
_FILE = re.compile(r"# (\S+\.(?:py|rb))\n")
_VALUE = re.compile(r"^# => (.*)$", re.MULTILINE)


def written(stage: Stage, found: list[Block]) -> Path:
    """Write the files of a page. Returns the one that the sidecar loads."""
    place, own = Path(stage.directory), []
    for block in found:
        if (named := _FILE.match(block.text)) is None:
            continue
        path = place / Path(named[1]).name
        path.write_text(block.text)
        if path.suffix == ".rb":
            own.append(path)
    loads = [
        f"$LOAD_PATH.unshift({json.dumps(str(ROOT / 'sidecar/lib'))})",
        'require "sidekiq-bridge/results"',
    ]
    loads += [f"require {json.dumps(str(path))}" for path in (JOBS, *own)]
    app = place / "how_to.rb"
    app.write_text("\n".join(loads))
    return app


def value_of(stage: Stage, block: Block) -> Any:
    """The value of the last expression of a program."""
    if block.language == "ruby":
        return stage.ruby.evaluate(block.text)
    tree = ast.parse(block.text)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    names: dict[str, Any] = {"app": client(stage)}
    tree.body = [each for each in tree.body if not isinstance(each, ast.ImportFrom)]
    exec(compile(tree, str(block), "exec"), names)
    return eval(compile(ast.Expression(last.value), str(block), "eval"), names)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_do_what_they_say(bare_stage: Stage, page: str) -> None:
    stage, found = bare_stage, blocks(page)
    app = written(stage, blocks(PAGES[page]))
    stage.start_sidecar(require=app)
    stage.start_worker(module="mytasks", env={"PYTHONPATH": f"{stage.directory}:{ROOT}"})
    stage.ruby.evaluate(f"require {json.dumps(str(app))}; true")
    told = [(block, wanted) for block in found for wanted in _VALUE.findall(block.text)]
    for block, wanted in told:
        assert value_of(stage, block) == json.loads(wanted), str(block)
    assert len(told) >= 2
