"""What a check needs for TLS: a context made from the configured files, and made anew when they change on disk.

Certificates are rotated in place (kubeadm, kubespray), a CA bundle first and then what it has signed. A check that went
on with what it had read at the start would find every master down, weeks later and all at once.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

from lbproxy.checks.answer import plain
from lbproxy.config.model import HealthConfig
from lbproxy.errors import LbproxyError

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int]
_MISSING: Final = (0, 0, 0)


class Secure:
    """The context for servers of one name. Raises LbproxyError if a file cannot be used."""

    def __init__(self, health: HealthConfig, name: str) -> None:
        self._health = health
        self._name = name
        self._files = [file for file in (health.ca_file, health.cert_file, health.key_file) if file]
        self._stamps = list(map(_stamp, self._files))
        self.context = _context(health, name)

    def renewed(self) -> bool:
        """Read the files again if they have changed; returns whether there is a new context.

        What cannot be used (a key that does not belong to its certificate yet) is told once, and the old one stays.
        """
        stamps = list(map(_stamp, self._files))
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            self.context = _context(self._health, self._name)
        except LbproxyError as error:
            log.warning("%s has changed and cannot be used, what was read before stays: %s", self._name, error)
            return False
        log.info("%s: certificate files have changed and were read again", self._name)
        return True


def _stamp(file: str) -> Stamp:
    try:
        stat = Path(file).stat()
    except OSError:
        return _MISSING
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _context(health: HealthConfig, name: str) -> ssl.SSLContext:
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
        place = f"health.server_name {name}"
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except (OSError, ValueError) as error:
        raise LbproxyError(f"{place}: {plain(error)}") from None
    return context
