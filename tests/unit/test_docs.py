"""What the documents name must exist, and what they show must be so."""

from __future__ import annotations

import ast
import builtins
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from bridge.broker import messages
from bridge.settings import Settings
from scripts import settings_table

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "sidecar/README.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
]
#: Names of others: Celery's application and its results, a field of the protocol.
FOREIGN = frozenset(["app", "AsyncResult", "next", "ReportJob"])
#: What the sidecar, the demo, the fault tests and click (for completion) read.
OTHER_VARIABLES = re.compile(
    r"BRIDGE_(SIDECAR_(BIND|METRICS_BIND|MAX_RSS_MB|WORKERS|THREADS)|COMPLETE|DEMO_\w+|FAULTS_SEED)"
)

FILE = re.compile(r"[\w./-]+/[\w.-]+\.(py|lua|rb|md|svg|json|yml|txt|sh)|\w+\.(toml|md)|Makefile")
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
TEST = re.compile(r"test_\w+")
CLASS = re.compile(r"[A-Z][a-z]\w*")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def prose_of(document: str) -> str:
    """The text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text_of(document), flags=re.DOTALL | re.MULTILINE)


def code_names(document: str) -> list[str]:
    return [name.removesuffix("()") for name in re.findall(r"`([^`\n]+)`", prose_of(document))]


# -- names in the code


@functools.cache
def definitions() -> dict[str, frozenset[str]]:
    """Modules (dotted and by their last name) and classes of the worker, with what they define."""
    found: dict[str, set[str]] = {}
    for path in [*(ROOT / "bridge").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name in (dotted, dotted.rpartition(".")[2]):
            found.setdefault(name, set()).update(_defined_in(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(_defined_in(node), _set_on_self(node))
    return {name: frozenset(names) for name, names in found.items()}


def _defined_in(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield child.name
        targets = child.targets if isinstance(child, ast.Assign) else [getattr(child, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _set_on_self(node: ast.ClassDef) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
            yield child.attr


@functools.cache
def ruby_classes() -> frozenset[str]:
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "sidecar/lib").rglob("*.rb"))
    return frozenset(name for text in texts for name in re.findall(r"(?:class|module) (\w+)", text))


@functools.cache
def known_tests() -> frozenset[str]:
    paths = [*(ROOT / "tests").rglob("*.py")]
    names = (re.findall(r"def (\w+)", path.read_text(encoding="utf-8")) for path in paths)
    return frozenset(path.stem for path in paths) | frozenset(name for found in names for name in found)


def exists(dotted: str) -> bool:
    """Whether ``module.name``, ``Class.member`` or ``package.module.Class.member`` is defined."""
    owner, _, member = dotted.rpartition(".")
    known = definitions()
    return (
        dotted in known or member in known.get(owner, ()) or member in known.get(owner.rpartition(".")[2], ())
    )


# -- the documents


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose_of(document))
    broken = [
        link for link in links if not link.startswith("https://") and not leads_somewhere(document, link)
    ]

    assert broken == []


def leads_somewhere(document: str, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (ROOT / document).parent / path if path else ROOT / document
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(path: Path) -> list[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/operations.md"]
)
def test_every_file_and_name_exists(document: str) -> None:
    missing = [name for name in code_names(document) if not is_there(name)]

    assert missing == []


def is_there(name: str) -> bool:
    if FILE.fullmatch(name):
        return (ROOT / name).is_file() or name.startswith(("config/", "vendor/"))
    if TEST.fullmatch(name):
        return name in known_tests()
    if DOTTED.fullmatch(name) and name.partition(".")[0] not in FOREIGN:
        return exists(name) or name.endswith((".yml", ".py")) or name == messages.RUBY_TASK
    return True


def test_every_class_that_the_architecture_names_exists() -> None:
    named = [name for name in code_names("docs/architecture.md") if CLASS.fullmatch(name)]
    known = definitions().keys() | ruby_classes() | {"Processor", *dir(builtins)}

    assert [name for name in named if name not in known] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_exists(document: str) -> None:
    named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", text_of(document), flags=re.MULTILINE))
    targets = set(re.findall(r"^([a-z -]+):", text_of("Makefile"), flags=re.MULTILINE))

    assert {a or b for a, b in named} <= {target for line in targets for target in line.split()}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_variable_is_a_setting(document: str) -> None:
    known = {f"BRIDGE_{name.upper()}" for name in Settings.model_fields} | {"BRIDGE_LOG"}
    named = set(re.findall(r"BRIDGE_[A-Z][A-Z_]*[A-Z]", text_of(document)))

    assert {name for name in named - known if not OTHER_VARIABLES.fullmatch(name)} == set()


# -- what is generated, or must be kept in step


def test_the_table_of_settings_is_current() -> None:
    text = text_of("README.md")

    assert settings_table.with_table(text) == text, "run scripts/settings-table"


def test_settings_that_nothing_uses_are_named_as_such() -> None:
    section = text_of("docs/architecture.md").partition("## Not built yet")[2].partition("\n## ")[0]

    assert set(re.findall(r"BRIDGE_\w+", section)) == {f"BRIDGE_{name.upper()}" for name in unused_settings()}


def unused_settings() -> set[str]:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "bridge").rglob("*.py"))
    # A *_file is read where its content takes the place of the setting.
    by_content = ("_url_file", "_password_file")
    return {
        name
        for name in Settings.model_fields
        if not re.search(rf"\.{name}\b|\"{name}\" (not )?in ", code) and not name.endswith(by_content)
    }


def test_every_key_of_our_own_is_named() -> None:
    keys = set(re.findall(r"\"(bridge:[a-z]+)", text_of("bridge/sidekiq/keys.py")))

    assert {key for key in keys if f"`{key}" not in text_of("docs/architecture.md")} == set()


# -- the protocol


def schema() -> dict[str, object]:
    found: dict[str, object] = json.loads(text_of("docs/protocol.schema.json"))
    return found


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize(
    "example", re.findall(r"^```json\n(.*?)^```", text_of("docs/protocol.md"), re.S | re.M)
)
def test_every_example_of_the_protocol_is_valid(example: str) -> None:
    Draft202012Validator(schema()).validate(json.loads(example))


@pytest.mark.parametrize(
    "reply",
    [
        '{"status": "done", "jid": null, "delivery": "a/1", "duration_ms": 1, "next": {"place": "none"}}',
        '{"status": "failed", "jid": null, "delivery": "a/1", "duration_ms": 1}',
        '{"status": "interrupted", "jid": "x", "delivery": "a/1", "duration_ms": 1}',
        '{"status": "done", "jid": "x", "delivery": "a", "duration_ms": 1}',
        '{"code": "no_such_code", "message": "?"}',
        '{"code": "misdirected", "message": "another process was meant"}',
    ],
)
def test_the_schema_refuses_what_is_no_reply(reply: str) -> None:
    assert not Draft202012Validator(schema()).is_valid(json.loads(reply))
