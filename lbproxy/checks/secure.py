"""What a check needs for TLS: a context made from the configured files, and made anew when they change on disk.

Certificates are rotated in place (kubeadm, kubespray), a CA bundle first and then what it has signed. A check that went
on with what it had read at the start would find every master down, weeks later and all at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from time import monotonic
from typing import Final
from weakref import WeakValueDictionary

from lbproxy.checks.answer import plain
from lbproxy.config.model import HealthConfig
from lbproxy.errors import LbproxyError
from lbproxy.threads import in_thread
from lbproxy.warnonce import WarnOnce

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int]
_MISSING: Final = (0, 0, 0)
_PATIENCE: Final = 5.0
"""Seconds in which the files are to be read when a configuration is applied; on a mount that hangs it may be never."""
_EVERY: Final = 1.0
_MOMENT: Final = 0.2
"""Seconds between two looks at the files, and for which a check waits for one."""


class Secure:
    """The context for all servers with these settings. Raises LbproxyError if a file cannot be used.

    The files are read in a thread, but for the first time where nobody has called `prepare`.
    """

    def __init__(self, health: HealthConfig) -> None:
        self.generation = 0
        """Another one, another context."""
        self._health = health
        self._files = [file for file in (health.ca_file, health.cert_file, health.key_file) if file]
        self._looked = monotonic()
        self._looking = False
        self._warning = WarnOnce()
        self._stamps: list[Stamp] = []
        self._differ: set[str] = set()
        """Files that have changed and could not be used yet, alone or with each other."""
        self._news: set[str] = set()
        self._read()

    @classmethod
    def of(cls, health: HealthConfig) -> Secure:
        """Return the one for `health`, which lasts as long as anybody has it."""
        found = _shared.get(health)
        if found is None:
            found = _shared[health] = cls(health)
        return found

    @classmethod
    async def prepare(cls, health: HealthConfig) -> Secure:
        """Return the one for `health`, with its files read now. Raises LbproxyError."""
        found = _shared.get(health)
        try:
            async with asyncio.timeout(_PATIENCE):
                if found is None:
                    found = await in_thread(lambda: cls(health), "read certificates")
                else:
                    await in_thread(found._look, "look at certificates")
        except TimeoutError:
            raise LbproxyError(f"health: certificate files cannot be read within {_PATIENCE:g} s") from None
        return _shared.setdefault(health, found)

    def check_name(self, name: str) -> None:
        """See that a certificate can be asked for in that name. Raises LbproxyError."""
        try:
            if not all(0 < len(label) < 64 for label in name.removesuffix(".").split(".")):
                raise ValueError("label empty or too long")
            self.context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name.encode("ascii"))
        except (OSError, ValueError) as error:
            raise LbproxyError(f"health.server_name {name}: {plain(error)}") from None

    async def renew(self) -> None:
        """Read the files again if they have changed. On a mount that hangs, what was read before stays.

        So it does where they cannot be used (a key that does not belong to its certificate yet), which is told once.
        """
        if self._looking or monotonic() < self._looked + _EVERY:
            return
        self._looking = True
        try:
            async with asyncio.timeout(_MOMENT):
                await in_thread(self._look_again, "look at certificates")
        except OSError:  # or the timeout; it goes on looking
            pass

    def news(self) -> list[str]:
        """Return the files that have been read again, since they differ, after the last call."""
        news, self._news = self._news, set()
        return sorted(news)

    def _look_again(self) -> None:
        try:
            if changed := self._look():
                log.info("certificate files have changed and were read again: %s", ", ".join(changed))
        except LbproxyError as error:
            if self._warning.news(str(error)):
                log.warning("certificate files have changed and cannot be used, what was read before stays: %s", error)
        finally:
            self._looked = monotonic()
            self._looking = False

    def _look(self) -> list[str]:
        """Read the files again if any differ; returns those that do. Raises LbproxyError if they cannot be used."""
        stamps = list(map(_stamp, self._files))
        if not self._unusable and stamps == self._stamps:
            return []
        self._differ |= {file for file, old, new in zip(self._files, self._stamps, stamps, strict=True) if old != new}
        self._read()
        changed, self._differ = self._differ, set()
        self._news |= changed
        return sorted(changed)

    def _read(self) -> None:
        self._stamps = list(map(_stamp, self._files))
        self._unusable = True
        self.context = _context(self._health)
        self._unusable = False
        self._warning.over()
        self.generation += 1


def name_for(health: HealthConfig, host: str) -> str:
    """Return the name that the server at `host:port` is asked for in TLS, and that its certificate should bear."""
    return health.server_name or host.rpartition(":")[0].strip("[]").rstrip(".")


_shared: Final[WeakValueDictionary[HealthConfig, Secure]] = WeakValueDictionary()


def _stamp(file: str) -> Stamp:
    try:
        stat = os.stat(file)
    except OSError:
        return _MISSING
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _context(health: HealthConfig) -> ssl.SSLContext:
    """Return what TLS needs; raises LbproxyError that names the key whose value cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not health.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    place = f"health.ca_file {health.ca_file}"
    try:
        if health.ca_file:
            context.load_verify_locations(health.ca_file)
        elif health.verify:
            context.load_default_certs()
        if health.cert_file:
            place = f"health.cert_file {health.cert_file} with key_file {health.key_file}"
            context.load_cert_chain(health.cert_file, health.key_file, password="")  # else OpenSSL asks for it
    except (OSError, ValueError) as error:
        raise LbproxyError(f"{place}: {plain(error)}") from None
    return context
