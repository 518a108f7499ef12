"""What is told of a connection on its way to another process, and what comes of it there."""

from __future__ import annotations

import json
import os
import resource
import socket
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.errors import HandoverError
from lbproxy.handover.parcel import VERSION, Parcel, ProcessState, decode, encode, encode_state, memfd

KNOWN = ProcessState.__annotations__.keys()
names = st.text(min_size=1, max_size=20)
counts = st.integers(0, 2**62)
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "client_fd": st.just(-1),
    "server_fd": st.sampled_from([-1, 0]),
    "proxy": names,
    "server": st.tuples(names, st.sampled_from(["10.4.6.11:6443", "[fd00::11]:1"])),
    "peer": st.tuples(names, st.integers(0, 65535)),
    "born": st.floats(0, 1e9),
    "moved": st.tuples(counts, counts),
    "first_fin": st.sampled_from(["", "client_fin", "server_fin"]),
    "flight": st.binary(max_size=50),
    "rests": st.tuples(st.binary(max_size=50), st.binary(max_size=50)),
    "slot": counts,
    "serial": counts,
}
parcels = st.builds(Parcel, **FIELDS)


@contextmanager
def descriptors(several: list[Parcel]) -> Iterator[None]:
    """Give the parcels open descriptors, and close them again."""
    for parcel in several:
        parcel.client_fd = os.open("/dev/null", os.O_RDONLY)
        if parcel.server_fd == 0:
            parcel.server_fd = os.open("/dev/null", os.O_RDONLY)
    yield
    for parcel in several:
        for fd in (parcel.client_fd, parcel.server_fd):
            if fd >= 0:
                os.close(fd)


def test_every_field_is_tried() -> None:
    """One that is forgotten here could be forgotten in the message, and would arrive as its default."""
    assert list(FIELDS) == [field.name for field in fields(Parcel)]


@given(st.lists(parcels, max_size=5))
def test_what_is_sent_arrives(several: list[Parcel]) -> None:
    """Every field, the bytes in transit, which descriptor is whose; the memfds are closed on arrival."""
    with descriptors(several):
        sent = []
        for parcel in several:
            sent += [fd for fd in (parcel.client_fd, parcel.server_fd) if fd >= 0]
            sent += [memfd("bytes", data) for _, data in parcel.blobs()]
        # What SCM_RIGHTS would make of them: the same files, memfds included, which decode reads and closes.
        arrived, state = decode(encode(several), sent)
        assert arrived == several
        assert state is None


@given(
    st.fixed_dictionaries({}, optional={"drained": st.lists(names), "carrier": counts, "sets": st.lists(names)}),
    st.dictionaries(names.filter(lambda key: key not in KNOWN), st.one_of(counts, names, st.lists(names))),
)
def test_the_state_arrives(state: ProcessState, later: dict[str, object]) -> None:
    """It comes in a message of its own; a later version may have more to say."""
    whole: Any = {**later, **state}
    assert decode(encode_state(whole), []) == ([], whole)


def null() -> int:
    """Return a descriptor."""
    return os.open("/dev/null", os.O_RDONLY)


@pytest.mark.parametrize("message", [b"", bytes([VERSION + 1]) + encode([])[1:], bytes([VERSION]) + b"?", b"\x00"])
def test_what_is_not_known_is_refused_and_closed(message: bytes) -> None:
    """Another version, or no message at all: nothing of it is used, and no descriptor stays open."""
    fd = null()
    with pytest.raises(HandoverError):
        decode(message, [fd])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_another_version_is_named() -> None:
    """The operator reads which one it was and which one would be known."""
    with pytest.raises(HandoverError, match=f"handover version 77, only {VERSION} is known here"):
        decode(b"\x4d", [])


def test_a_message_that_lost_descriptors_is_refused_whole() -> None:
    """The kernel drops those that do not fit under RLIMIT_NOFILE; whose they were cannot be known."""
    client, server = null(), null()
    where = ("m", "10.4.6.11:6443")
    parcel = Parcel(client_fd=client, server_fd=server, proxy="p", server=where, peer=("127.0.0.1", 1), born=0.0)
    with pytest.raises(HandoverError, match="LimitNOFILE"):
        decode(encode([parcel]), [client])
    os.close(server)


def test_bytes_that_find_no_room_are_an_error_and_leave_no_file() -> None:
    """A write that takes some of them is no error to the kernel; the connection would go on with a hole."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            memfd("bytes", bytes(4096))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


ROW = ["c", 0, 0, "p", "", "", ["127.0.0.1", 1], 0.0, 0, 0, ""]


def with_(at: int, value: object) -> list[object]:
    """Return a row that has something else in one place."""
    return [*ROW[:at], value, *ROW[at + 1 :]]


@pytest.mark.parametrize(
    "content",
    [
        [ROW], {"parcels": ROW}, {"parcels": [ROW[:-1]]}, {"parcels": [with_(0, "cc")]}, {"parcels": [with_(0, "x")]},
        {"parcels": [with_(0, "s")]}, {"parcels": [with_(1, -1)]}, {"parcels": [with_(2, 1 << 64)]},
        {"parcels": [with_(3, None)]}, {"parcels": [with_(0, "cs")]}, {"parcels": [with_(6, ["127.0.0.1"])]},
        {"parcels": [with_(6, [1, 1])]}, {"parcels": [with_(7, float("nan"))]}, {"parcels": [with_(8, "1")]},
        {"state": 5}, {"state": {"drained": "m1"}}, {"state": {"sets": [1]}}, {"state": {"carrier": "3"}},
    ],
    ids=range(18),
)  # fmt: skip
def test_what_no_process_would_tell_is_refused_and_closed(content: object) -> None:
    """A successor that went on with half of it would die of it later, with all connections in its hands."""
    rows = content.get("parcels", []) if isinstance(content, dict) else []
    fds = [null() for _ in range(2 if rows and rows[0] and rows[0][0] in ("cc", "cs") else 1)]
    message = bytes([VERSION]) + zlib.compress(json.dumps(content).encode())
    with pytest.raises(HandoverError):
        decode(message, fds)
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'"' + bytes(64 << 20)], ids=["nested", "endless"])
def test_a_message_that_unfolds_without_end_is_refused(content: bytes) -> None:
    """It has 256 KiB at most, which may be the beginning of gigabytes."""
    tracemalloc.start()
    try:
        with pytest.raises(HandoverError):
            decode(bytes([VERSION]) + zlib.compress(content), [])
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_bytes_in_transit_that_cannot_be_read_are_an_error() -> None:
    """Something else came in place of the file: the message is refused whole, and nothing of it stays open."""
    near, far = socket.socketpair()
    fds = [null(), near.detach()]
    row = with_(0, "cu")
    with pytest.raises(HandoverError, match="cannot be read"):
        decode(bytes([VERSION]) + zlib.compress(json.dumps({"parcels": [row]}).encode()), fds)
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    far.close()
