"""The page at `/`, for a person with a browser: page.html, which asks for the JSON of the other pages again and again.

What is in it before that, and without JavaScript, is made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from lbproxy.balance.state import State
from lbproxy.status.shapes import ProxyStatus, Status
from lbproxy.status.table import LEFT
from lbproxy.status.text import alarms, count, headline, server_rows, summary

_FILE: Final = Path(__file__).with_name("page.html")
_HERE: Final = "<!-- what is so now, for a browser without JavaScript -->"


def status_page(status: Status) -> Iterator[str]:
    """Yield the page, a row at a time; everything in it is escaped."""
    before, after = _template()
    yield before
    yield f'<h1>{escape(status["host"] or "lbproxy")}</h1><p class="dim">{escape(headline(status))}</p>\n'
    if alarm := alarms(status):
        yield f'<p class="alarm">{escape(chr(10).join(alarm))}</p>\n'
    for name, proxy in status["proxies"].items():
        yield from _proxy(name, proxy)
    yield after


@cache
def _template() -> tuple[str, str]:
    before, _, after = _FILE.read_text(encoding="utf-8").partition(_HERE)
    return before, after


def _proxy(name: str, proxy: ProxyStatus) -> Iterator[str]:
    alarm = "" if count(proxy, State.UP, State.UNCHECKED) else ' class="alarm"'
    listen = escape(", ".join(proxy["listen"]))
    yield f"<h2>{escape(name)}</h2><p{alarm}>{listen}: {escape(summary(proxy))}</p>\n"
    heads, *rows = server_rows(proxy)
    word = [' class="word"' if head in LEFT else "" for head in heads]
    named = [f'{w} data-head="{escape(head.capitalize())}"' for w, head in zip(word, heads, strict=True)]
    columns = "".join(f'<th scope="col"{w}>{escape(h)}</th>' for w, h in zip(word, heads, strict=True))
    yield f"<table><thead><tr>{columns}</tr></thead><tbody>\n"
    for row, server in zip(rows, proxy["servers"].values(), strict=True):
        cells = "".join(f"<td{n}>{escape(cell)}</td>" for n, cell in zip(named, row, strict=True))
        yield f'<tr class="{escape(server["state"])}">{cells}</tr>\n'
    yield "</tbody></table>\n"
