"""A daemon under a systemd that reads what it is told, and does nothing of it but to remember."""

from __future__ import annotations

import os
import socket
import threading

from tests.support.daemon import Daemon


class Told(Daemon):
    """One that may name another process as the service."""

    def prepare(self) -> None:
        super().prepare()
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._systemd.bind(str(self.dir / "notify"))
        self.env["NOTIFY_SOCKET"] = str(self.dir / "notify")
        self.told: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        """Close what is sent along, for that is how a barrier passes."""
        while True:
            message, fds, _, _ = socket.recv_fds(self._systemd, 1000, 10)
            self.told += message.decode().split("\n")
            for fd in fds:
                os.close(fd)
            if not message:
                return

    def _close(self, show: bool) -> None:
        try:
            super()._close(show)
        finally:
            if self.env:  # it was prepared
                self._systemd.shutdown(socket.SHUT_RD)
                self._reading.join()
                self._systemd.close()
