"""What the two processes of an upgrade say to each other."""

from __future__ import annotations

import json

import pytest

from lbproxy.errors import HandoverError
from lbproxy.handover.messages import Connections, Go, Have, Hello, Message, Ready, Refused, decode, encode

EVERY: tuple[Message, ...] = (Hello(1, "1.2.3", True), Ready("4.5.6", 7), Refused("no"), Connections(), Have(), Go())


@pytest.mark.parametrize("message", EVERY, ids=lambda each: type(each).__name__)
def test_a_message_arrives_as_what_it_was(message: Message) -> None:
    """Every field of it."""
    assert decode(encode(message), type(message)) == message


def test_what_a_later_version_adds_is_passed_over() -> None:
    """Else no field could ever be added; what the two must agree on is the version in the first message."""
    later = json.dumps({**json.loads(encode(EVERY[0])), "since": 7}).encode()
    assert decode(later, Hello) == EVERY[0]


def test_what_an_earlier_version_does_not_say_has_a_meaning() -> None:
    """Else it could not be gone back to."""
    assert decode(b'{"message": "ready", "version": "0.1"}', Ready) == Ready("0.1", 0)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b"{}", b'{"message": "sing"}', b'{"message": "hello"}',
                                  b'{"message": "hello", "handover": "1", "version": "1", "marks": true}',
                                  b'{"message": "hello", "handover": 1, "version": [], "marks": true}',
                                  b"[" * 60_000])  # fmt: skip
def test_what_is_not_known_is_an_error(data: bytes) -> None:
    """Of any shape: the other process may be of any version."""
    with pytest.raises(HandoverError, match="says what is not known here"):
        decode(data, Hello)


def test_a_message_out_of_turn_is_an_error() -> None:
    """It is named, with the one that was due."""
    with pytest.raises(HandoverError, match="said 'go' where 'ready' was due"):
        decode(encode(Go()), Ready)


def test_a_refusal_is_told_in_its_own_words() -> None:
    """Whatever was due instead."""
    with pytest.raises(HandoverError, match=r"^the new process refused: the file is broken$"):
        decode(encode(Refused("the file is broken")), Ready)
