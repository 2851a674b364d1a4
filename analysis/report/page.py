"""The page around the sections: head, style for light and dark, phones and paper, and the list of contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .markup import Markup, escape, join, tag

STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1b2130; --soft: #566072; --rule: #d8dde6; --box: #f4f6f9;
  --accent: #0b62b0; --shade: 11 98 176; --ink: 78%; --into: black; }
@media (prefers-color-scheme: dark) { :root { --page: #12161f; --text: #e3e7ef; --soft: #a0a9b9; --rule: #333b4a;
  --box: #1b212d; --accent: #7db8f2; --shade: 90 160 230; --ink: 90%; --into: white; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 72rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: .2rem 0 .4rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--rule); } h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p, li { max-width: 52rem; } p.note, figcaption { color: var(--soft); font-size: .87rem; }
a { color: var(--accent); } nav a { margin-right: .9rem; white-space: nowrap; } code { font-size: .92em; }
.scroll { overflow-x: auto; max-width: 100%; } table { border-collapse: collapse; font-size: .9rem; margin: .4rem 0; }
th, td { text-align: left; padding: .22rem .7rem .22rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
.scroll td, .scroll th { overflow-wrap: normal; } .scroll td:first-child { min-width: 7rem; }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; padding-right: .5rem; padding-left: .5rem; }
.facts th { color: var(--soft); font-weight: 400; width: 11rem; }
.headline { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; } .headline div { background: var(--box);
  border-radius: .5rem; padding: .5rem 1rem; } .headline b { display: block; font-size: 1.5rem; }
.headline span { color: var(--soft); font-size: .87rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
.images { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 1rem; }
figure { margin: 0; } img { max-width: 100%; height: auto; border-radius: .25rem; } svg { width: 100%; height: auto; }
.chart svg { max-width: 34rem; } svg text { fill: var(--soft); font-size: 12px; } .grid { stroke: var(--rule); }
.line { fill: none; stroke: color-mix(in srgb, var(--c) var(--ink), var(--into)); stroke-width: 1.8; }
.faint { stroke: var(--soft); stroke-opacity: .3; stroke-width: 1; } .mean { stroke: var(--text); stroke-width: 2.4;
  stroke-dasharray: 6 3; } .dot { fill: color-mix(in srgb, var(--c, var(--text)) var(--ink), var(--into)); }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .45em;
  background: color-mix(in srgb, var(--c) var(--ink), var(--into)); }
.cell { background: rgb(var(--shade) / var(--share)); padding: .1rem .5rem; border-radius: .2rem; }
rect.cell { fill: rgb(var(--shade) / var(--share)); }
.bars { columns: 24rem; column-gap: 2rem; font-size: .84rem; list-style: none; padding: 0; } .bars li { display: grid;
  grid-template-columns: 1fr 6rem 3.4rem; gap: .5rem; align-items: center; break-inside: avoid; max-width: none; }
.bars i { display: block; height: .6em; background: var(--box); border-radius: 2px; overflow: hidden; }
.bars i b { display: block; height: 100%; background: var(--accent); } .bars span { text-align: right;
  font-variant-numeric: tabular-nums; }
@media print { @page { margin: 14mm; } body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } figure, tr, .headline div { break-inside: avoid; }
  h2, h3 { break-after: avoid; } .scroll { overflow: visible; } .charts, .images { grid-template-columns: 1fr 1fr; }
  .scroll table { font-size: 8pt; } #confusion { font-size: 7pt; } #confusion .n, #confusion .cell { padding: .1rem; }
  .bars { columns: 2; font-size: 7.5pt; } }
@media print and (prefers-color-scheme: dark) { :root { --page: #fff; --text: #1b2130; --soft: #566072;
  --rule: #d8dde6; --box: #f4f6f9; --accent: #0b62b0; --shade: 11 98 176; --ink: 78%; --into: black; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of the page; one without content is left out."""

    id: str
    title: str
    content: Markup


def page(title: str, lead: Markup, sections: Sequence[Section]) -> str:
    """A whole HTML document. No part of it refers to anything outside."""
    shown = [section for section in sections if section.content]
    contents = tag("nav", join(tag("a", section.title, href=f"#{section.id}") for section in shown))
    body = join(tag("section", tag("h2", s.title) + s.content, id=s.id) for s in shown)
    # No script can run and nothing can be loaded, whatever a name contains.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>\n{lead}\n{contents}</header>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
