"""Hooks of MkDocs: makes one site of the repository's documents.

The documents link to each other and to the code as a reader of the repository needs it. Here those outside of
docs/ become pages, and every file that is linked to comes along as a plain text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Documents outside docs/, and their names in the site.
ELSEWHERE = {
    "README.md": "index.md",
    "sidecar/README.md": "sidecar.md",
    "benchmarks/README.md": "benchmarks.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
PRESENT = {path: name for path, name in ELSEWHERE.items() if (ROOT / path).is_file()}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """A document that mkdocs.yml gives no place is found at the end of the reference."""
    nav = config.nav or []
    placed = set(re.findall(r"[\w-]+\.md", str(nav)))
    (reference,) = (section["Reference"] for section in nav if "Reference" in section)
    reference += sorted({path.name for path in (ROOT / "docs").glob("*.md")} - placed)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents from elsewhere, and the files that any document links to."""
    for path, name in PRESENT.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text(encoding="utf-8")))
    documents = [*PRESENT, *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    linked = {path for document in documents for path in _linked(document)}
    for path in sorted(path for path in linked if _is_source(path)):
        files.append(File.generated(config, _uri(path), content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links to where their targets are in the site."""
    here = page.file.src_uri
    origin = next((path for path, name in PRESENT.items() if name == here), f"docs/{here}")
    return LINK.sub(lambda link: _led(link, origin, here), markdown)


def _linked(document: str) -> Iterator[str]:
    for link in LINK.finditer((ROOT / document).read_text(encoding="utf-8")):
        if link[3]:
            yield _target(document, link[3])


def _target(document: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(document), link))


def _is_source(path: str) -> bool:
    return (ROOT / path).is_file() and path not in PRESENT and not path.startswith("docs/")


def _uri(path: str) -> str:
    """Return a file's address in the site. It ends in .txt, so that a browser shows the file."""
    if path in PRESENT:
        return PRESENT[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}.txt"


def _led(link: re.Match[str], origin: str, here: str) -> str:
    image, text, target, anchor = link[1], link[2], link[3], link[4] or ""
    if not target:
        return link[0]
    path = _target(origin, target)
    if (ROOT / path).is_dir():
        return text  # a folder of the repository: the site has no page for it
    uri = posixpath.relpath(_uri(path), posixpath.dirname(here) or ".")
    return f"{image}[{text}]({uri}{anchor})"
