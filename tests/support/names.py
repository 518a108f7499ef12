"""A name server of the test's own, that knows SRV records: over UDP and TCP, on a free loopback port."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

Record = tuple[int, int, int, str | bytes]
"""Priority, weight, port and target; bytes are put as they are."""


def name(text: str) -> bytes:
    """Return a name as it stands in a message."""
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def reply(asked: bytes, records: Sequence[Record], code: int = 0) -> bytes:
    """Return an answer with these records."""
    found = asked[:2] + struct.pack("!5H", 0x8180 | code, 1, len(records), 0, 0) + asked[12:]
    for priority, weight, port, target in records:
        data = struct.pack("!3H", priority, weight, port) + (target if isinstance(target, bytes) else name(target))
        found += bytes([0xC0, 12]) + struct.pack("!2HIH", 33, 1, 30, len(data)) + data
    return found


class NameServer:
    """Answers each question with what `answer` makes of it; None is no answer. What is too long is cut over UDP."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.where = self._tcp.getsockname()[:2]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(self.where)
        self._threads = [threading.Thread(target=run) for run in (self._datagrams, self._connections)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.where)
        socket.create_connection(self.where).close()
        for thread in self._threads:
            thread.join()
        self._tcp.close()
        self._udp.close()

    def _datagrams(self) -> None:
        while True:
            data, sender = self._udp.recvfrom(65535)
            if not data:
                return
            self.asked.append("udp")
            answer = self.answer(data)
            if answer is not None and len(answer) > 512:
                answer = answer[:2] + bytes([answer[2] | 2]) + answer[3:6] + bytes(6) + data[12:]
            if answer is not None:
                self._udp.sendto(answer, sender)

    def _connections(self) -> None:
        while True:
            client, _ = self._tcp.accept()
            with client:
                size = client.recv(2)
                if not size:
                    return
                self.asked.append("tcp")
                answer = self.answer(client.recv(int.from_bytes(size, "big"))) or b""
                client.sendall(len(answer).to_bytes(2, "big") + answer)
