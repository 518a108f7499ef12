"""The page at `/`, for a person with a browser."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from lbproxy.balance.state import State
from lbproxy.status.shapes import Status
from lbproxy.status.table import LEFT
from lbproxy.status.text import alarms, count, headline, server_rows, summary

_STYLE: Final = """
body{font:14px/1.5 system-ui,sans-serif;margin:2em;color:#222}h2{margin:1.5em 0 .3em;font-size:1.1em}
table{border-collapse:collapse}th,td{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}
th{font-weight:600;color:#666}td.word,th.word{text-align:left}.alarm{color:#b00020;font-weight:600;white-space:pre-wrap}
.up{color:#0a7d32}.unchecked,.draining,.disabled{color:#666}.sick{color:#b36b00}.down{color:#b00020;font-weight:600}
"""


def status_page(status: Status) -> Iterator[str]:
    """Yield a self-contained HTML page that reloads itself, a row at a time; everything in it is escaped."""
    yield (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        f"<title>lbproxy</title><style>{_STYLE}</style><body><h1>lbproxy</h1><p>{escape(headline(status))}</p>\n"
    )
    if alarm := alarms(status):
        yield f'<p class="alarm">{escape(chr(10).join(alarm))}</p>\n'
    for name, proxy in status["proxies"].items():
        alarm_class = "" if count(proxy, State.UP, State.UNCHECKED) else ' class="alarm"'
        yield (
            f"<h2>{escape(name)}</h2><p{alarm_class}>{escape(', '.join(proxy['listen']))}: "
            f"{escape(summary(proxy))}</p><table>\n"
        )
        heads, *rows = server_rows(proxy)
        word = [' class="word"' if head in LEFT else "" for head in heads]
        yield "<tr>" + "".join(f"<th{w}>{escape(h)}</th>" for w, h in zip(word, heads, strict=True)) + "</tr>\n"
        for row, server in zip(rows, proxy["servers"].values(), strict=True):
            cells = "".join(f"<td{w}>{escape(cell)}</td>" for w, cell in zip(word, row, strict=True))
            yield f'<tr class="{escape(server["state"])}">{cells}</tr>\n'
        yield "</table>\n"
    yield '<p><a href="/status">status</a> <a href="/metrics">metrics</a> <a href="/readyz">readyz</a></p>\n'
    yield "</body></html>\n"
