"""The EndpointSlices of one service (discovery.k8s.io/v1), from a list of them and what a watch says then.

An answer that has something in it which cannot be is refused whole: what else it says is then no better.
"""

from __future__ import annotations

from typing import Final

from lbproxy.checks.answer import printable
from lbproxy.config.address import read_address
from lbproxy.config.model import Address

_NONE: Final[dict[str, object]] = {}


class GoneError(Exception):
    """The API server no longer knows what came after the version that was asked for: list anew."""


class Slices:
    """What is known of them, by name. Raises ValueError for an answer that cannot be believed, and stays as it was."""

    def __init__(self) -> None:
        self.version = ""
        """Behind which a watch goes on; empty if there is nothing to go on with."""
        self._places: dict[str, tuple[Address, ...]] = {}

    def addresses(self) -> list[Address]:
        """Return where the service is, each place once."""
        return list(dict.fromkeys(place for places in self._places.values() for place in places))

    def listed(self, answer: object) -> None:
        """Take in a whole EndpointSliceList."""
        whole = _mapping(answer)
        version = _version(whole)
        places = {}
        for each in _items(whole.get("items")):
            places[_name(_mapping(each))] = _places(_mapping(each))
        self._places, self.version = places, version

    def changed(self, event: object) -> bool:
        """Take in one event of a watch; returns whether it is about a slice. Raises GoneError too."""
        whole = _mapping(event)
        kind, subject = whole.get("type"), _mapping(whole.get("object"))
        if kind == "ERROR":
            if subject.get("code") == 410:
                raise GoneError
            raise ValueError(f"an error in the watch: {printable(str(subject.get('message')))}")
        version = _version(subject)
        if kind in ("ADDED", "MODIFIED"):
            self._places[_name(subject)] = _places(subject)
        elif kind == "DELETED":
            self._places.pop(_name(subject), None)
        self.version = version
        return kind != "BOOKMARK"


def _places(one: dict[str, object]) -> tuple[Address, ...]:
    if one.get("addressType") not in ("IPv4", "IPv6"):
        return ()
    endpoints = _items(one.get("endpoints"))
    port = _port(_items(one.get("ports"))) if endpoints else 0
    return tuple(
        _address(ip, port)
        for endpoint in map(_mapping, endpoints)
        if _mapping(endpoint.get("conditions")).get("ready") is not False  # unknown is to be taken for ready
        for ip in _items(endpoint.get("addresses"))[:1]  # of which Kubernetes says that all are alike
    )


def _port(ports: list[object]) -> int:
    """Return the one called https, else the first."""
    usable = [each for each in map(_mapping, ports) if each.get("protocol") in (None, "TCP")]
    for each in [each for each in usable if each.get("name") == "https"] or usable:
        number = each.get("port")
        if isinstance(number, int):
            return number
    raise ValueError("a slice without a port")


def _address(ip: object, port: int) -> Address:
    text = _text(ip)
    place = read_address(f"[{text}]:{port}" if ":" in text else f"{text}:{port}", bound=False)
    if place.host.strip("0123456789.") and ":" not in place.host:
        raise ValueError(f"{text[:80]!r} is no IP address")
    return place


def _name(one: dict[str, object]) -> str:
    return _text(_mapping(one.get("metadata")).get("name"))


def _version(one: dict[str, object]) -> str:
    return _text(_mapping(one.get("metadata")).get("resourceVersion"))


def _mapping(value: object) -> dict[str, object]:
    if value is None:
        return _NONE
    if not isinstance(value, dict):
        raise ValueError("an answer that is none")
    return value


def _items(value: object) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError("an answer that is none")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("an answer that lacks something")
    return value
