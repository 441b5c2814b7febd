"""Markdown to one HTML file that needs nothing but itself: pictures inside, readable on a phone, light and dark."""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from pathlib import Path
from urllib.parse import unquote

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --ground: #fff; --line: #d9dde2; --soft: #f4f6f8; --link: #0060a8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --ground: #16181b; --line: #3a3f45; --soft: #22262a; --link: #6db8f2 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 1rem 1.2rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 1rem 0 .5rem }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line) }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem }
a { color: var(--link) }
img { display: block; max-width: 100%; height: auto; margin: .8rem 0; background: #fff; border-radius: 6px }
table { display: block; max-width: 100%; overflow-x: auto; border-collapse: collapse; margin: .8rem 0;
  font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th { background: var(--soft); white-space: nowrap }
code { background: var(--soft); padding: .1em .3em; border-radius: 4px; font-size: .9em }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; border-radius: 6px }
pre code { padding: 0 }
td[style*="right"] { white-space: nowrap }
td:last-child:nth-child(n+5) { min-width: 14rem }
td:nth-child(2):last-child { overflow-wrap: anywhere }
@media (max-width: 40rem) { p:has(> img) { overflow-x: auto } p > img { max-width: 40rem } }
blockquote { margin: .8rem 0; padding: .1rem 1rem; border-left: 4px solid #d55e00; background: var(--soft) }
"""


def to_html(markdown: str, title: str, folder: Path) -> str:
    """Return ``markdown`` as a whole HTML page; pictures, named relative to ``folder``, are put into it."""
    from markdown_it import MarkdownIt

    body = str(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))

    def embed(match: re.Match[str]) -> str:
        path = folder / unquote(html.unescape(match[1]))
        kind = mimetypes.guess_type(path.name)[0] or "image/png"
        return f'src="data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}" loading="lazy"'

    body = re.sub(r'src="([^":]+)"', embed, body)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
