"""What the two processes of an upgrade say to each other over a SOCK_SEQPACKET pair; see `steps` for when.

A message is a JSON object: its name under `message`, and its fields. What a later version adds to one is passed over.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Final, TypeVar

from lbproxy.errors import HandoverError
from lbproxy.record import dataclass

LONGEST: Final = 65536
"""Bytes of a message."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The old process: what it speaks and is. The listening sockets ride along, and the marks, if any, as the last."""

    handover: int
    version: str
    marks: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """The new process: nothing stands in the way. `pid` is its number, 0 for the process that was started."""

    version: str
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The new process: it will not take over."""

    why: str


@dataclass(frozen=True, slots=True)
class Connections:
    """The old process: every connection comes in the queue (`fdqueue`) that rides along.

    So does, behind it, the file with what has happened, if there is one; versions before 1.0 neither send nor read it.
    """


@dataclass(frozen=True, slots=True)
class Have:
    """The new process: the connections are here."""


@dataclass(frozen=True, slots=True)
class Go:
    """The old process: serve."""


Message = Hello | Ready | Refused | Connections | Have | Go
Kind = TypeVar("Kind", bound=Message)
_KINDS: Final[dict[str, type[Message]]] = {
    kind.__name__.lower(): kind for kind in (Hello, Ready, Refused, Connections, Have, Go)
}


def encode(message: Message) -> bytes:
    """Return what `decode` reads."""
    return json.dumps({"message": type(message).__name__.lower(), **asdict(message)}).encode()


def decode(data: bytes, kind: type[Kind]) -> Kind:
    """Return the message, which is one of `kind`. Raises HandoverError for any other one; a refusal's has its words."""
    try:
        content = json.loads(data)
        found = _KINDS[content["message"]]
        given = {field.name: content[field.name] for field in fields(found) if field.name in content}
        if any(type(given[field.name]).__name__ != field.type for field in fields(found) if field.name in given):
            raise TypeError
        message = found(**given)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HandoverError("the other process says what is not known here") from None
    if isinstance(message, kind):
        return message
    if isinstance(message, Refused):
        raise HandoverError(f"the new process refused: {message.why}")
    raise HandoverError(f"the other process said {content['message']!r} where {kind.__name__.lower()!r} was due")
