"""The docs as a site: it builds, links of the repository lead to their places in it, and a broken link is an error."""

import logging
from types import SimpleNamespace

import pytest

pytest.importorskip("material", reason="need mkdocs-material (extra docs)")
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from tools.docs_site import ROOT, on_page_markdown


@pytest.fixture(autouse=True)
def quiet():
    yield
    logging.getLogger("mkdocs").handlers.clear()


def test_the_site_builds_without_a_warning(tmp_path):
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    first = (tmp_path / "index.html").read_text()
    assert 'href="data.html"' in first and 'src="demo.png"' in first and 'href="contributing.html"' in first
    assert "docs/" not in "".join(part.split('"')[0] for part in first.split('href="')[1:])
    assert (tmp_path / "configs/base.yaml").read_bytes() == (ROOT / "configs/base.yaml").read_bytes()


@pytest.mark.parametrize(
    "page, text, moved",
    [
        ("README.md", "[a](docs/data.md#boxes) ![b](docs/demo.png)", "[a](data.md#boxes) ![b](demo.png)"),
        ("README.md", "[a](configs/base.yaml) [b](#data)", "[a](configs/base.yaml) [b](#data)"),
        ("docs/data.md", "[a](../CONTRIBUTING.md) [b](events.md)", "[a](contributing.md) [b](events.md)"),
        ("docs/data.md", "[a](../README.md#data) [b](https://a.b/c)", "[a](index.md#data) [b](https://a.b/c)"),
        ("docs/data.md", "[gone](nowhere.md) f[0](x)", "[gone](nowhere.md) f[0](x)"),
    ],
)
def test_links_lead_to_the_places_in_the_site(page, text, moved):
    assert on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(abs_src_path=ROOT / page)), None, None) == moved


@pytest.mark.parametrize("link", ["nowhere.md", "#nothing"])
def test_a_broken_link_is_an_error(tmp_path, link):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A page\n\n[a link]({link})\n")
    folders = {"docs_dir": str(tmp_path / "docs"), "site_dir": str(tmp_path / "site")}
    with pytest.raises(Abort, match="Aborted with 1 warnings in strict mode"):
        build(load_config(str(ROOT / "mkdocs.yml"), **folders, nav=["index.md"], hooks=[], extra_css=[], strict=True))
