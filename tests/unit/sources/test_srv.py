"""Questions for SRV records, and answers of which any byte may be wrong."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.sources.srv import TruncatedError, answers, question, servers
from tests.support.names import name, reply

ASKED = question("_https._tcp.example", 7)


def found(data: bytes) -> list[tuple[str, int, bool]]:
    """Return address, weight and whether it is a backup, of each."""
    return [(str(server.address), server.weight, server.backup) for server in servers(data)]


def test_targets_of_the_lowest_priority_are_servers_and_the_others_backups() -> None:
    """As RFC 2782 means it; the weights are those of a configuration, from 1."""
    data = reply(ASKED, [(10, 5, 6443, "b.example"), (0, 0, 6443, "a.example"), (0, 2000, 6444, "c.example")])
    assert found(data) == [
        ("a.example:6443", 1, False),
        ("c.example:6444", 1000, False),
        ("b.example:6443", 5, True),
    ]


def test_names_may_be_abbreviated() -> None:
    """By a pointer to where they stood before."""
    target = b"\1m" + bytes([0xC0, 12 + 12])  # what follows _https._tcp in the question
    assert found(reply(ASKED, [(0, 1, 1, target)])) == [("m.example:1", 1, False)]


def test_a_target_of_nothing_but_the_root_is_no_server() -> None:
    """So it is said that there is no such service."""
    assert found(reply(ASKED, [(0, 0, 0, b"\0")])) == []


def test_other_records_are_passed_over() -> None:
    """A name server may add what it thinks is of use."""
    data = bytearray(reply(ASKED, [(0, 1, 1, "a.example"), (0, 1, 2, "b.example")]))
    at = data.index(struct.pack("!2H", 33, 1), len(ASKED))
    data[at : at + 2] = struct.pack("!H", 16)
    assert found(bytes(data)) == [("b.example:2", 1, False)]


def test_an_answer_that_was_cut_says_so() -> None:
    """It is asked for again over TCP."""
    data = bytearray(reply(ASKED, []))
    data[2] |= 2
    with pytest.raises(TruncatedError):
        servers(bytes(data))


@pytest.mark.parametrize(("code", "why"), [(3, "no such name"), (2, "error 2")])
def test_an_error_is_told_in_words(code: int, why: str) -> None:
    """Neither takes a server away."""
    with pytest.raises(ValueError, match=why):
        servers(reply(ASKED, [], code))


def test_an_answer_to_several_questions_is_none() -> None:
    """One was asked. Of sixty thousand, each a pointer into a long name, the reading would take seconds."""
    data = reply(ASKED, [(0, 1, 1, "a.example")])
    with pytest.raises(ValueError, match="several questions"):
        servers(data[:4] + b"\xff\xff" + data[6:])


def test_a_pointer_that_leads_in_circles_ends() -> None:
    """And one port of 0, as one name that is none, makes the answer void."""
    for target in (bytes([0xC0, len(ASKED) + 18]), b"\x80", b"\x3fa"):
        with pytest.raises(ValueError, match=r"name|breaks off"):
            servers(reply(ASKED, [(0, 1, 1, target)]))
    with pytest.raises(ValueError, match="port"):
        servers(reply(ASKED, [(0, 1, 0, "a.example")]))
    with pytest.raises(ValueError, match="host"):
        servers(reply(ASKED, [(0, 1, 1, name("a b.example"))]))


def test_an_answer_is_to_this_question() -> None:
    """By number and name, whose case does not count."""
    data = reply(ASKED, [])
    assert answers(ASKED, data)
    assert answers(ASKED, data.replace(b"example", b"EXAMPLE"))
    assert not answers(question("_https._tcp.example", 8), data)
    assert not answers(question("_https._tcp.exampla", 7), data)
    assert not answers(ASKED, ASKED)
    assert not answers(ASKED, b"")


@given(st.binary(max_size=200))
def test_whatever_comes_is_servers_or_a_value_error(data: bytes) -> None:
    """Anybody may answer."""
    try:
        servers(data)
    except ValueError:
        pass


@given(st.integers(0, 80), st.integers(0, 255))
def test_one_wrong_byte_is_no_bug(at: int, value: int) -> None:
    """Nor is it anywhere."""
    data = bytearray(reply(ASKED, [(0, 1, 6443, "a.example"), (1, 1, 6443, "b.example")]))
    data[at] = value
    try:
        servers(bytes(data))
    except ValueError:
        pass
