"""What an errno is called, wherever it is met."""

from __future__ import annotations

import errno

import pytest

from lbproxy.net.reasons import ours, reason, silent


@pytest.mark.parametrize(("word", "names"), [
    ("refused", "ECONNREFUSED"),
    ("reset", "ECONNRESET"),
    ("closed", "EPIPE"),
    ("timeout", "ETIMEDOUT"),
    ("unreachable", "EHOSTUNREACH ENETUNREACH EHOSTDOWN"),
    ("shortage", "EMFILE ENFILE ENOBUFS ENOMEM EADDRNOTAVAIL EAGAIN ENOSPC"),
    ("error", "EIO EACCES EPROTO"),
])  # fmt: skip
def test_an_errno_has_one_word_for_everybody(word: str, names: str) -> None:
    """A dashboard and a log that disagreed about the same failure would send their reader to two places."""
    for name in names.split():
        number = getattr(errno, name)
        assert reason(number) == word
        assert silent(number) == (word in ("timeout", "unreachable"))
        assert ours(number) == (word in ("shortage", "error"))


def test_an_error_without_a_number_is_an_error() -> None:
    """As are some that Python raises itself."""
    assert reason(None) == reason(0) == "error"
