"""What has been found of a file so far: values with their origins, what needs no key, and what has no counterpart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from math import inf
from typing import Final

from lbproxy.config.model import Config, HealthConfig, Keepalive, Listen, Log, ProxyConfig, ServerConfig
from lbproxy.config.report import printable
from lbproxy.config.scalars import members, read, write
from lbproxy.errors import Problem
from lbproxy.importer.directive import Directive, brief, every
from lbproxy.importer.source import problem

OPEN: Final = "`listen` shows /metrics and /status too, `probes` would not"
"""Said of the addresses of `admin`."""
_NAME_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9_.:\[\]-]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """A directive, and the words of it that say something."""

    directive: Directive
    words: str

    def __str__(self) -> str:
        return f"{self.directive.where}: {brief(self.words)}"


@dataclass(slots=True)
class Value:
    """The text of a value, in lbproxy's own spelling, and where it comes from."""

    text: str
    origins: list[Origin]


class Draft:
    """A configuration in the making."""

    def __init__(self) -> None:
        self.top = Keys(Config, self)
        self.admin = Addresses(self)
        self.log = Keys(Log, self)
        self.proxies: dict[str, ProxyDraft] = {}
        self._needless: dict[tuple[Directive, str], str] = {}
        self._left: dict[tuple[Directive, str], str] = {}
        self._settled: set[Directive] = set()

    def settle(self, origin: Origin) -> None:
        """Note that a directive has become a value."""
        self._settled.add(origin.directive)

    def settled(self, directive: Directive) -> bool:
        """Tell whether a directive has a fate, at least in part."""
        return directive in self._settled

    def needless(self, directive: Directive, why: str, words: str = "") -> None:
        """Note that a directive, or some words of it, need no key, and why."""
        self._settled.add(directive)
        self._needless.setdefault((directive, words or directive.words), why)

    def left(self, directive: Directive, why: str, words: str = "") -> None:
        """Note that a directive, or some words of it, have no counterpart, and why."""
        self._settled.add(directive)
        self._left.setdefault((directive, words or directive.words), why)

    def left_whole(self, directive: Directive, why: str) -> None:
        """Note that a directive has no counterpart, and so nothing that it holds."""
        self.left(directive, why)
        for each in every(directive.block):
            if each not in self._settled:
                self.left(each, f"belongs to {brief(directive.words)} on line {directive.line}, which is left out")

    def needless_whole(self, directive: Directive, why: str) -> None:
        """Note that neither a directive nor what it holds needs a key."""
        for each in every((directive,)):
            self.needless(each, why)

    def sweep(self, directives: Iterable[Directive], known: Callable[[Directive], bool]) -> None:
        """Give a fate to all that has none: what is `known` has a meaning, and nothing here for which it holds."""
        for each in every(directives):
            if each in self._settled:
                continue
            if known(each):
                self.needless(each, "is not in force for anything that is imported")
            else:
                self.left(each, "has no counterpart")

    def proxy(self, name: str, origin: Directive) -> ProxyDraft:
        """Begin a proxy; its name is made one that the model takes and no other has."""
        name = _NAME_CHARACTERS.sub("-", name)[:200].lstrip(".:]-") or "proxy"
        unique, number = name, 2
        while unique in self.proxies:
            unique, number = f"{name}-{number}", number + 1
        self._settled.add(origin)
        self.proxies[unique] = ProxyDraft(unique, self, Origin(origin, origin.words))
        return self.proxies[unique]

    def finish(self) -> None:
        """Take out the proxies that have come to nothing, with all that was for them."""
        for name, proxy in list(self.proxies.items()):
            if proxy.listen.values and proxy.servers:
                continue
            del self.proxies[name]
            why = f"is for {name}, of which no {'server' if proxy.listen.values else 'address'} could be imported"
            for origin in proxy.origins():
                self.left(origin.directive, why, origin.words)

    @property
    def comments(self) -> list[str]:
        """What needs no key, line by line, in file order."""
        found = sorted(self._needless.items(), key=lambda each: (each[0][0].file, each[0][0].line))
        return [f"{Origin(directive, words)}: {printable(why)}" for (directive, words), why in found]

    @property
    def problems(self) -> list[Problem]:
        """What has no counterpart, in file order."""
        found = [problem(d.file, d.line, brief(words), why) for (d, words), why in self._left.items()]
        return sorted(found, key=lambda each: (each.file, each.line))


class Keys:
    """The keys of one mapping of the file, of which `cls` is the model."""

    def __init__(self, cls: type, draft: Draft) -> None:
        self._cls = cls
        self._hints = members(cls)
        self.draft = draft
        self.values: dict[str, Value] = {}

    def put(self, key: str, text: str, *origins: Origin) -> bool:
        """Give `key` a value; one that it cannot have, or that differs from what it has, is left out."""
        try:
            text = write(read(self._hints[key], text))
        except ValueError as error:
            return self._refuse(origins, f"{key}: {error}")
        known = self.values.get(key)
        if known is not None and known.text != text:
            return self._refuse(origins, f"{key} is {brief(known.text)} already, by {known.origins[0]}")
        if known is None:
            self.values[key] = known = Value(text, [])
        known.origins += origins
        for each in origins:
            self.draft.settle(each)
        return True

    def agree(self, key: str, given: Sequence[Value | None], default: str) -> None:
        """Give `key` the value that all servers have, each by itself (None: the `default` of the program)."""
        present = [each for each in given if each is not None]
        origins = [origin for each in present for origin in each.origins]
        if present and len({each.text if each else default for each in given}) == 1:
            self.put(key, present[0].text, *origins)
        elif present:
            self._refuse(origins, f"differs between servers, and {key} is one for all of them")

    def reach(self, key: str, other: Value) -> None:
        """Give `key` the value of `other` where its default would be shorter than that."""
        default = next(each.default for each in fields(self._cls) if each.name == key)
        value = read(self._hints[key], other.text)
        if isinstance(value, float) and isinstance(default, float) and value > default:
            self.put(key, other.text, *other.origins)

    def number(self, key: str, text: str) -> float | None:
        """Return how much a value is, where 0 is no limit; None if `key` cannot have it."""
        try:
            value = read(self._hints[key], text)
        except ValueError:
            return None
        return float(value) or inf if isinstance(value, int | float) else None

    def _refuse(self, origins: Iterable[Origin], why: str) -> bool:
        for each in origins:
            self.draft.left(each.directive, why, each.words)
        return False


class Addresses:
    """Addresses to listen on, each of them once."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self.values: list[Value] = []

    def add(self, text: str, origin: Origin) -> bool:
        """Add an address; where it is there already, it has one more origin. What is none is left out."""
        try:
            text = write(read(Listen, text))
        except ValueError as error:
            self._draft.left(origin.directive, str(error), origin.words)
            return False
        self._draft.settle(origin)
        for known in self.values:
            if known.text == text:
                known.origins.append(origin)
                return True
        self.values.append(Value(text, [origin]))
        return True


@dataclass(slots=True)
class ProxyDraft:
    """A proxy in the making."""

    name: str
    draft: Draft
    origin: Origin
    listen: Addresses = field(init=False)
    servers: list[Keys] = field(default_factory=list)
    keys: Keys = field(init=False)
    keepalive: Keys = field(init=False)
    health: Keys = field(init=False)

    def __post_init__(self) -> None:
        self.listen = Addresses(self.draft)
        self.keys = Keys(ProxyConfig, self.draft)
        self.keepalive = Keys(Keepalive, self.draft)
        self.health = Keys(HealthConfig, self.draft)

    def origins(self) -> Iterator[Origin]:
        """Yield where all that it has comes from."""
        yield self.origin
        values = [
            value for keys in (*self.servers, self.keys, self.keepalive, self.health) for value in keys.values.values()
        ]
        for value in (*self.listen.values, *values):
            yield from value.origins

    def serves(self, name: str, address: str, origin: Origin) -> Keys | None:
        """Add a server, called as its address where `name` is empty; None if it can be none, which is noted."""
        server = Keys(ServerConfig, self.draft)
        if not server.put("address", address, origin) or (name and not server.put("name", name, origin)):
            return None
        called = server.values["name" if name else "address"]
        for each in self.servers:
            if (known := each.values.get("name") or each.values["address"]).text == called.text:
                self.draft.left(
                    origin.directive, f"{called.text} is there already, by {known.origins[0]}", origin.words
                )
                return None
        self.servers.append(server)
        return server
