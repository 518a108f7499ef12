"""Rules of the page."""

from __future__ import annotations

from lbproxy.status.page import status_page
from tests.unit.status.values import server, status


def test_page_escapes_everything_it_shows() -> None:
    """Whatever a server, a file or a name says, it is text on the page and not markup."""
    evil = '<script>alert("1")</script>&\''
    values = status(server(evil, reason=evil, state=evil), last_reload_successful=False, last_reload_error=evil)
    page = "".join(status_page(values))
    assert page.count("<script") == 1
    assert page.count("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#x27;") >= 5


def test_page_shows_each_server_and_whether_something_is_wrong() -> None:
    """The page holds the rows of the table, and an alarm only when there is one."""
    good = "".join(status_page(status(server("m1"))))
    bad = "".join(status_page(status(server("m1", state="down", reason="timeout"))))
    assert 'class="alarm"' not in good
    assert '<p class="alarm">' in bad
    assert '<td class="word" data-head="Server">m1</td>' in bad
    assert '<td class="word" data-head="Reason">timeout</td>' in bad


def test_page_needs_nothing_from_anywhere_else() -> None:
    """A node may have no way out, and a browser must not be told to find one."""
    page = "".join(status_page(status(server("m1"))))
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "default-src 'none'" in page
