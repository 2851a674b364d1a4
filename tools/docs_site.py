"""Hook of mkdocs.yml: README.md is the first page of the site, CONTRIBUTING.md is one, linked configs are copied.

In the repository pages link to each other and to configs by their paths there, and are read on GitHub as well; here the
links are rewritten to the places in the site.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
OUTSIDE = {ROOT / "README.md": "index.md", ROOT / "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r"(?<=\]\()[^)\s#:]+(?=[)#])")  # the path in [text](path#heading)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and what pages link to there."""
    pages = [*OUTSIDE, *(Path(file.abs_src_path or "") for file in files.documentation_pages())]
    linked = {(page.parent / path).resolve() for page in pages for path in LINK.findall(page.read_text())}
    for file in sorted({*OUTSIDE, *linked}):
        if file.is_file() and file.is_relative_to(ROOT) and not file.is_relative_to(DOCS):
            files.append(File.generated(config, place(file), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of a page by their places in the site. What is not there stays, for MkDocs to report."""
    source = Path(page.file.abs_src_path or "")
    here = Path(place(source)).parent

    def moved(link: re.Match[str]) -> str:
        file = (source.parent / link.group()).resolve()
        return os.path.relpath(place(file), here) if file.is_file() and file.is_relative_to(ROOT) else link.group()

    return LINK.sub(moved, markdown)


def place(file: Path) -> str:
    """Where a file of the repository is in the site: docs/data.md as data.md."""
    return OUTSIDE.get(file) or str(file.relative_to(DOCS if file.is_relative_to(DOCS) else ROOT))
