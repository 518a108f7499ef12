"""A server that the file does not name, among those that it does."""

from __future__ import annotations

from lbproxy.config.model import ServerConfig
from lbproxy.record import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundServer(ServerConfig):
    """A server that one of `servers_from` names: `source` is which, `good` whether its checks have ever been good."""

    source: str  # type: ignore[misc] # what all others have in common
    good: bool = False  # type: ignore[misc]
