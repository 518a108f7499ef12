"""`host:port` to an `Address`, with an error that says what is wrong with it."""

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

from lbproxy.config.model import Address
from lbproxy.config.report import quoted

_SPLIT = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*)):([^:]*)")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAPPED: Final = bytes(10) + b"\xff\xff"
_PORT = re.compile(r"[1-9][0-9]{0,4}")


def notation(*, bound: bool) -> str:
    """Return how an address is written, in words; `bound` is as for `read_address`."""
    return f"{'IP' if bound else 'HOST'}:PORT, such as 10.4.6.11:6443 or [fd00::11]:6443"


def read_address(text: str, *, bound: bool) -> Address:
    """Return the address in `text`, in one spelling; `bound` allows only what can be listened on, an IP address.

    Raises ValueError with a reason that ends in the text itself.
    """
    if why := _mistake(text):
        raise ValueError(f"{why}, got {quoted(text)}")
    found = _SPLIT.fullmatch(text)
    if found is None:
        raise ValueError(f"must be {notation(bound=bound)}, got {quoted(text)}")
    bracketed, bare, digits = found.groups()
    if not _PORT.fullmatch(digits) or int(digits) > 65535:
        raise ValueError(f"the port must be a whole number from 1 to 65535, got {quoted(text)}")
    try:
        host = _ipv6(bracketed) if bracketed is not None else _host(bare, bound)
        if not bound and host in ("0.0.0.0", "::"):
            raise ValueError("the host must be an address to connect to and not the wildcard")
    except ValueError as error:
        raise ValueError(f"{error}, got {quoted(text)}") from None
    return Address(host, int(digits))


def _mistake(text: str) -> str | None:
    """Name what people write instead."""
    if "://" in text:
        return "must be HOST:PORT without a scheme such as https://"
    if "%" in text:
        return "an IPv6 zone (%...) is not supported"
    if text.count(":") > 1 and "[" not in text:
        return "an IPv6 address is written in brackets, such as [fd00::11]:6443"
    return None


def _ipv6(text: str) -> str:
    try:
        packed = inet_pton(AF_INET6, text)
    except (OSError, ValueError):
        raise ValueError("what is in brackets must be an IPv6 address") from None
    if packed.startswith(_MAPPED):
        return inet_ntop(AF_INET, packed[12:])  # the kernel means IPv4 by ::ffff:10.4.6.11, and so does the rest here
    spelling = inet_ntop(AF_INET6, packed)
    if "." in spelling:  # the C library shows IPv4 in ::1:0 too
        from ipaddress import IPv6Address

        return str(IPv6Address(packed))
    return spelling


def _host(text: str, bound: bool) -> str:
    try:
        return inet_ntop(AF_INET, inet_pton(AF_INET, text))
    except (OSError, ValueError):
        pass
    labels = text.lower().removesuffix(".").split(".")
    if labels[-1].isdigit():  # resolvers would read 10.4.6 and 10.4.6.256 each in their own way
        raise ValueError("the host looks like an IPv4 address and is none")
    if len(text) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("the host must be a host name or an IP address")
    if bound:
        raise ValueError("the host must be an IP address to listen on and not a name")
    return text.lower()
