"""`lbproxy check`: what a start would say of a configuration file, as the user that the service runs as.

Root can read everything, so what root finds good may keep the service from starting at the next boot.
"""

from __future__ import annotations

import json
import os
import pwd
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypedDict

from lbproxy.checks.answer import plain
from lbproxy.config.load import read_file, regular_file, unreadable
from lbproxy.config.model import DEFAULT_CONTROL, DEFAULT_FILE, Config, HealthConfig
from lbproxy.config.report import under
from lbproxy.errors import ConfigError, LbproxyError, Problem
from lbproxy.sources.kubeconfig import read as read_kubeconfig
from lbproxy.status.control import PATH_LIMIT

ACCOUNT: Final = "lbproxy"
"""Whom systemd/lbproxy.service runs as."""


class Found(TypedDict):
    """One problem; see `errors.Problem`."""

    line: int
    path: str
    why: str


def service_account() -> str | None:
    """Return whom the service runs as, where this process can judge for it: as root, where there is the account."""
    if os.geteuid() == 0 and any(each.pw_name == ACCOUNT for each in pwd.getpwall()):
        return ACCOUNT
    return None


def check(file: str, user: str | None) -> list[Problem]:
    """Return what is wrong with `file`, the files it names and its control socket's place, for `user` (None: us).

    `file` itself is read as whoever calls, since it may be one that is not in place yet; the default file is in place.
    Raises LbproxyError when this process cannot judge for that user.
    """
    if user is None or user == _me():
        return _problems(file)
    account = _account(user)
    if os.geteuid() != 0:
        raise LbproxyError(f"only root can check as {user}")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            found = [[each.line, each.path, each.why] for each in _problems(file, account)]
            with os.fdopen(writing, "w", encoding="utf-8") as out:
                json.dump(found, out)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    if not text:
        raise LbproxyError(f"cannot check as {user}")
    return [Problem(file, line, path, why) for line, path, why in json.loads(text)]


def as_found(problems: list[Problem]) -> list[Found]:
    """Return `problems` for JSON."""
    return [{"line": each.line, "path": each.path, "why": each.why} for each in problems]


def _me() -> str | None:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise LbproxyError(f"there is no user {user!r}") from None


def _become(account: pwd.struct_passwd) -> None:
    os.initgroups(account.pw_name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def _problems(file: str, account: pwd.struct_passwd | None = None) -> list[Problem]:
    """Return what is wrong, as `account` sees it; this process is its from then on."""

    def see(config: Config) -> Iterator[tuple[str, str]]:
        if account is not None:
            _become(account)
            if Path(file) == Path(DEFAULT_FILE):
                yield from _own(file, account.pw_name)
        faulty = dict(unreadable(config))
        yield from faulty.items()
        for name, proxy in config.proxies.items():
            place = under("proxies", name) + ".health"
            if proxy.health is not None and not any(each.startswith(place) for each in faulty):
                yield from ((f"{place}.{key}", why) for key, why in _unusable(proxy.health))
            kubernetes = proxy.servers_from.kubernetes if proxy.servers_from is not None else None
            at = f"{under('proxies', name)}.servers_from.kubernetes.kubeconfig"
            if kubernetes is not None and at not in faulty:
                yield from ((at, why) for why in _unfit(kubernetes.kubeconfig))
        yield from (("control", why) for why in _control(config.control))

    found = read_file(file, see, piped=True).config
    return found.problems if isinstance(found, ConfigError) else []


def _own(file: str, name: str) -> Iterator[tuple[str, str]]:
    try:
        regular_file(file)
    except OSError as error:
        yield "", f"cannot be read by {name}: {error.strerror}"


def _unusable(health: HealthConfig) -> Iterator[tuple[str, str]]:
    """Yield the keys whose files are no certificates and keys, and why; none of them is missing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if health.ca_file:
            context.load_verify_locations(health.ca_file)
    except (OSError, ValueError) as error:
        yield "ca_file", f"cannot be used: {plain(error)}: {health.ca_file!r}"
    try:
        if health.cert_file:
            context.load_cert_chain(health.cert_file, health.key_file, password="")  # else OpenSSL asks for it
    except (OSError, ValueError) as error:
        yield "cert_file", f"cannot be used with key_file {health.key_file!r}: {plain(error)}"


def _unfit(kubeconfig: str) -> Iterator[str]:
    """Yield why nobody can be asked with a kubeconfig."""
    try:
        read_kubeconfig(kubeconfig)
    except LbproxyError as error:
        yield f"cannot be used: {error}"


def _control(path: str) -> Iterator[str]:
    """Yield why there could be no control socket at `path`; systemd makes the default's directory."""
    if len(os.fsencode(path)) > PATH_LIMIT:
        yield f"a socket's path has at most {PATH_LIMIT} bytes"
    directory = Path(path).parent
    if not directory.exists():
        if directory == Path(DEFAULT_CONTROL).parent:
            return
        if not directory.parent.is_dir():
            yield f"the directory {directory.parent} does not exist"
            return
        directory = directory.parent
    if not directory.is_dir():
        yield f"{directory} is not a directory"
    elif not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        yield f"{directory} cannot be written to"
