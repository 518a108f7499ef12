"""What was found, on disk: a node that boots without a network, or while all it knows is away, begins with that.

A file of JSON, an entry for each source: what was asked for, when it was answered last (Unix time), the servers as a
configuration has them, and which of them had good checks. It is a help and never in the way: one that cannot be read is
none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Final, NamedTuple

from lbproxy.config.found import FoundServer
from lbproxy.config.load import regular_file, servers
from lbproxy.config.model import ServerConfig
from lbproxy.errors import LbproxyError
from lbproxy.sources.found import MOST, Origin, accepted

_NEVER: Final = 1e12
"""Unix time, beyond all that anybody writes."""


class Kept(NamedTuple):
    """The servers of one source, and when it named them last (Unix time)."""

    at: float
    servers: tuple[FoundServer, ...]


def read(file: str) -> dict[Origin, Kept]:
    """Return what is in `file`, nothing where there is none. Raises LbproxyError, which says what is wrong with it."""
    try:
        entries = json.loads(regular_file(file))
        return dict(map(_entry, entries))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LbproxyError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, LbproxyError):
        raise LbproxyError(f"{file} is not what was written there") from None


def _entry(each: dict[str, object]) -> tuple[Origin, Kept]:
    origin = Origin(str(each["proxy"]), str(each["kind"]), str(each["where"]))
    found = servers(json.dumps(each["servers"]), "")
    at, good = each["at"], each["good"]
    if not isinstance(at, (int, float)) or not isinstance(good, list):
        raise TypeError
    if not 0 <= at < _NEVER:  # which is what NaN and the infinite are not
        raise ValueError
    places = {server.address for server in found if str(server.address) in good}
    return origin, Kept(float(at), accepted(found[:MOST], origin.kind, places))


def write(file: str, found: Mapping[Origin, Kept]) -> None:
    """Replace what is in `file`, whole or not at all. Raises OSError."""
    entries = [
        {
            **origin._asdict(),
            "at": round(kept.at),
            "servers": [_plain(server) for server in kept.servers],
            "good": [str(server.address) for server in kept.servers if server.good],
        }
        for origin, kept in found.items()
    ]
    new = f"{file}.new"
    try:
        with open(new, "w", encoding="utf-8") as out:
            json.dump(entries, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, file)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise


def _plain(server: FoundServer) -> dict[str, object]:
    plain = {each.name: getattr(server, each.name) for each in fields(ServerConfig)}
    return {**plain, "address": str(server.address)}
