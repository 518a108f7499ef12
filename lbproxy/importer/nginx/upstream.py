"""What stands in an upstream of nginx's, and where it listens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lbproxy.importer.directive import Directive
from lbproxy.importer.draft import Keys, Origin, ProxyDraft, Value
from lbproxy.importer.units import nginx_time, whole

_PORT: Final = re.compile(r"(?:\*:)?([0-9]+)")
_ONE_KERNEL: Final = "listening sockets are as lbproxy makes them"
_LISTEN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("backlog", "rcvbuf", "sndbuf", "fastopen", "reuseport", "deferred", "bind"), _ONE_KERNEL),
    "default_server": "one server has the address",
    "ipv6only=on": "[::] is IPv6 alone",
    "so_keepalive=on": "keepalive towards clients is always on",
    "so_keepalive=off": "keepalive towards clients is always on",
}
_KEEPALIVE: Final = "towards clients keepalive has its own times, see `keepalive`"
_UPSTREAM: Final[Mapping[str, str]] = {
    "zone": "workers share what they know of servers by themselves",
    "include": "what is in there follows with its own place",
}
_FLAGS: Final = ("backup", "down")


def listens(directive: Directive, proxy: ProxyDraft) -> None:
    """Take a `listen` of `stream`."""
    for address in _addresses(directive):
        proxy.listen.add(address, Origin(directive, directive.words))
    for word in directive.args[1:]:
        if why := _LISTEN.get(word) or _LISTEN.get(word.partition("=")[0]):
            proxy.draft.needless(directive, why, f"listen {directive.arg} {word}")
        elif word != "ipv6only=off":
            why = _KEEPALIVE if word.startswith("so_keepalive=") else "has no counterpart"
            proxy.draft.left(directive, why, f"listen {directive.arg} {word}")


def address_of(text: str) -> str:
    """Return where a `listen` listens; one of all addresses is that of IPv4."""
    if found := _PORT.fullmatch(text):
        return f"0.0.0.0:{whole(found[1])}"
    return re.sub(r"^localhost(?=:)", "127.0.0.1", text)


def _addresses(directive: Directive) -> list[str]:
    address = address_of(directive.arg)
    both = "ipv6only=off" in directive.args and address.startswith("[::]")
    return [address, f"0.0.0.0{address[4:]}"] if both else [address]


def import_upstream(upstream: Directive, proxy: ProxyDraft) -> None:
    """Take the servers of an upstream, and how they are chosen."""
    shared: dict[str, list[Value | None]] = {"max_fails": [], "fail_timeout": []}
    chosen = False
    for each in upstream.block:
        if each.name == "server":
            _server(each, proxy, shared)
        elif each.name in _UPSTREAM:
            proxy.draft.needless(each, _UPSTREAM[each.name])
        elif each.name == "least_conn":
            chosen = proxy.keys.put("balance", "least_conn", Origin(each, each.name))
        elif each.name in ("hash", "random"):
            chosen = True
            proxy.draft.left(each, "the server with the fewest connections is chosen")
        elif each.name == "resolver":
            proxy.draft.left(each, "names are looked up by the system's resolver")
        else:
            proxy.draft.left_whole(each, "has no counterpart")
    if not chosen:
        why = "nginx takes the servers in turn; lbproxy the one with the fewest connections, and equals in turn"
        proxy.draft.needless(upstream, why)
    proxy.keys.agree("max_fails", shared["max_fails"], "1")
    proxy.keys.agree("fail_timeout", shared["fail_timeout"], "10s")


def _server(directive: Directive, proxy: ProxyDraft, shared: dict[str, list[Value | None]]) -> None:
    server = proxy.serves("", directive.arg, Origin(directive, f"server {directive.arg}"))
    common: dict[str, Value | None] = dict.fromkeys(shared)
    for word in directive.args[1:]:
        origin = Origin(directive, f"server {directive.arg} {word}")
        key, _, text = word.partition("=")
        if server is None:
            proxy.draft.left(directive, "belongs to a server that is left out", origin.words)
        elif key in common:
            if (earlier := common[key]) is not None:
                proxy.draft.needless(directive, "is said again", earlier.origins[0].words)
            common[key] = Value(whole(text) if key == "max_fails" else nginx_time(text), [origin])
        else:
            _option(key, text, server, origin)
    if server is not None:
        for key, value in common.items():
            shared[key].append(value)


def _option(key: str, text: str, server: Keys, origin: Origin) -> None:
    if key in ("weight", "max_conns"):
        server.put(key, whole(text), origin)
    elif key in _FLAGS and not text:
        server.put(key, "true", origin)
    elif key == "resolve":
        server.draft.needless(origin.directive, "names are looked up again every 30 s", origin.words)
    else:
        server.draft.left(origin.directive, "has no counterpart", origin.words)
