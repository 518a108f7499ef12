"""Two configurations to what has to be done to get from one to the other, and the same in words.

A server is known by its name and its address together; if either changes, one goes and another comes. The order
of proxies, servers and addresses means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields

from lbproxy.config.model import Address, Config, ProxyConfig, Record, ServerConfig
from lbproxy.config.scalars import write
from lbproxy.record import dataclass

RESTART = ("workers", "control")
"""Keys of the whole process that a reload cannot change."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key that changed. `key` is dotted (`keepalive.idle`); `old` and `new` are as one would write them."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key} {self.old} -> {self.new}"


@dataclass(frozen=True, slots=True)
class Retuned:
    """A server that stays, with other settings."""

    old: ServerConfig
    new: ServerConfig


@dataclass(frozen=True, slots=True)
class Moved:
    """A listening address that goes from one proxy to another and is handed over without being closed."""

    address: Address
    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyPlan:
    """What becomes of one proxy: `old` is None for one that is added, `new` for one that is removed.

    `listen_opened` and `listen_closed` leave out what another proxy hands over or takes over: see `Plan.moved`.
    """

    name: str
    old: ProxyConfig | None
    new: ProxyConfig | None
    listen_opened: tuple[Address, ...] = ()
    listen_closed: tuple[Address, ...] = ()
    servers_added: tuple[ServerConfig, ...] = ()
    servers_removed: tuple[ServerConfig, ...] = ()
    servers_retuned: tuple[Retuned, ...] = ()
    settings: tuple[Setting, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield each change in words."""
        if self.old is None:
            yield f"{self.name}: proxy added"
        if self.new is None:
            yield f"{self.name}: proxy removed"
        for address in self.listen_opened:
            yield f"{self.name}: listen {address} opened"
        for address in self.listen_closed:
            yield f"{self.name}: listen {address} closed"
        for server in self.servers_added:
            yield f"{self.name}: server {_label(server)} added"
        for server in self.servers_removed:
            yield f"{self.name}: server {_label(server)} removed"
        for each in self.servers_retuned:
            for setting in _settings(each.old, each.new, skip=("good",)):
                yield f"{self.name}: server {_label(each.new)} {setting}"
        for setting in self.settings:
            yield f"{self.name}: {setting}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What changed.

    `proxies` holds only those with a change, a moved address included, removed ones last. `settings` are those of
    the process; `restart_needed` are of the process too, but stay as they are until the next start.
    """

    proxies: tuple[ProxyPlan, ...]
    moved: tuple[Moved, ...]
    settings: tuple[Setting, ...]
    restart_needed: tuple[Setting, ...]

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return bool(self.proxies or self.moved or self.settings or self.restart_needed)

    def lines(self, besides: Iterable[str] = ()) -> list[str]:
        """Return every change in words, a line each, and what has changed `besides`; or the one line `no change`."""
        lines = [line for proxy in self.proxies for line in proxy.lines()]
        lines += [f"{move.target}: listen {move.address} taken over from {move.source}" for move in self.moved]
        lines += map(str, self.settings)
        lines += [f"{setting} takes effect at the next restart or upgrade" for setting in self.restart_needed]
        return [*lines, *besides] or ["no change"]


def diff(old: Config, new: Config) -> Plan:
    """Return what has to be done to go from `old` to `new`."""
    before = {address: name for name, proxy in old.proxies.items() for address in proxy.listen}
    after = {address: name for name, proxy in new.proxies.items() for address in proxy.listen}
    names = [*new.proxies, *(name for name in old.proxies if name not in new.proxies)]
    plans = [_proxy(name, old, new, before, after) for name in names]
    moved = tuple(Moved(a, before[a], name) for a, name in after.items() if before.get(a, name) != name)
    movers = {name for each in moved for name in (each.source, each.target)}
    settings = tuple(_settings(old, new, skip=("proxies",)))
    return Plan(
        proxies=tuple(plan for plan in plans if plan.name in movers or any(plan.lines())),
        moved=moved,
        settings=tuple(s for s in settings if s.key not in RESTART),
        restart_needed=tuple(s for s in settings if s.key in RESTART),
    )


def _proxy(name: str, old: Config, new: Config, before: dict[Address, str], after: dict[Address, str]) -> ProxyPlan:
    was, now = old.proxies.get(name), new.proxies.get(name)
    had = {(s.name, s.address): s for s in was.servers} if was else {}
    has = {(s.name, s.address): s for s in now.servers} if now else {}
    return ProxyPlan(
        name=name,
        old=was,
        new=now,
        listen_opened=tuple(a for a in (now.listen if now else ()) if a not in before),
        listen_closed=tuple(a for a in (was.listen if was else ()) if a not in after),
        servers_added=tuple(s for key, s in has.items() if key not in had),
        servers_removed=tuple(s for key, s in had.items() if key not in has),
        servers_retuned=tuple(Retuned(had[key], s) for key, s in has.items() if had.get(key, s) != s),
        settings=tuple(_settings(was, now, skip=("listen", "servers"))) if was and now else (),
    )


def _settings(old: Record, new: Record, prefix: str = "", skip: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Yield the keys of two values of one class that differ, those of nested mappings dotted."""
    for name in (field.name for field in fields(new) if field.name not in skip):
        was, now = getattr(old, name), getattr(new, name)
        if was == now:
            continue
        if isinstance(was, Record) and isinstance(now, Record):
            yield from _settings(was, now, f"{prefix}{name}.")
        else:
            yield Setting(prefix + name, _shown(was), _shown(now))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return write(value[0]) if len(value) == 1 else f"[{', '.join(map(write, value))}]"
    if not isinstance(value, Record):
        return write(value)
    keys = ((f.name, getattr(value, f.name)) for f in fields(value))
    return f"{{{', '.join(f'{key}: {_shown(each)}' for key, each in keys if each is not None)}}}"


def _label(server: ServerConfig) -> str:
    address = str(server.address)
    return address if server.name == address else f"{server.name} ({address})"
