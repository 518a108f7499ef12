"""Where HAProxy listens. HAProxy, `bind`: addresses with commas between them, then words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from lbproxy.importer.directive import Directive
from lbproxy.importer.draft import Draft, Origin, ProxyDraft
from lbproxy.importer.units import whole

_SOCKET: Final = "listening sockets are as lbproxy makes them"
_NEEDLESS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("backlog", "defer-accept", "tfo", "nice", "process", "thread", "shards", "mss"), _SOCKET),
    **dict.fromkeys(("id", "name", "guid-prefix", "label"), "an address has no name"),
    **dict.fromkeys(("v4v6", "v6only", "transparent"), "[::] is IPv6 alone, and 0.0.0.0 stands beside it where it is"),
}
_VALUED: Final = frozenset(
    ("alpn", "backlog", "ca-file", "ciphers", "ciphersuites", "crl-file", "crt", "crt-list", "curves", "ecdhe", "gid",
     "group", "guid-prefix", "id", "interface", "label", "level", "maxconn", "mode", "mss", "name", "namespace",
     "nbconn", "nice", "npn", "process", "proto", "severity-output", "shards", "ssl-max-ver", "ssl-min-ver", "tcp-ut",
     "thread", "tls-ticket-keys", "uid", "user", "verify")
)  # fmt: skip
_IMPOSSIBLE: Final[Mapping[str, str]] = {
    "ssl": "TLS is passed through, and ends at the servers",
    "accept-proxy": "it takes no such header",
    "accept-netscaler-cip": "it takes no such header",
}


def impossible_bind(bind: Directive) -> str:
    """Return why lbproxy cannot listen as this `bind` says; empty if it can."""
    for word in bind.args[1:]:
        if word in _IMPOSSIBLE:
            return f"bind {word}: {_IMPOSSIBLE[word]}"
    return ""


def binds(bind: Directive, draft: Draft) -> Iterator[str]:
    """Yield the addresses of a `bind`, where all those of IPv6 are all of IPv4 too; its other words get their fate."""
    words = iter(bind.args[1:])
    for word in words:
        said = f"{word} {next(words, '')}".rstrip() if word in _VALUED else word
        if word in _NEEDLESS:
            draft.needless(bind, _NEEDLESS[word], f"bind {bind.arg} {said}")
        else:
            draft.left(bind, "has no counterpart", f"bind {bind.arg} {said}")
    for text in bind.arg.split(","):
        yield from _addresses(text, "v6only" in bind.args)


def listen(front: list[Directive], proxy: ProxyDraft) -> None:
    """Take the addresses of a frontend."""
    for bind in front:
        for address in binds(bind, proxy.draft):
            proxy.listen.add(address, Origin(bind, bind.words))


def _addresses(text: str, v6only: bool) -> Iterator[str]:
    """Yield an address as lbproxy writes it; without a port it is left as it is, and refused."""
    host, colon, port = text.rpartition(":")
    if not colon:
        yield text
        return
    if host.startswith(("ipv4@", "ipv6@")):
        host = host[5:] or {"ipv4@": "*", "ipv6@": "::"}[host]
    yield address_of(host, port)
    if host in ("::", "[::]") and not v6only:
        yield f"0.0.0.0:{whole(port)}"  # Linux' default for a socket of IPv6


def address_of(host: str, port: str) -> str:
    """Return `host:port`, where an address of IPv6 may lack its brackets."""
    if host in ("", "*"):
        host = "0.0.0.0"
    return f"[{host}]:{whole(port)}" if ":" in host and not host.startswith("[") else f"{host}:{whole(port)}"
