"""Rules of finding a client's process, on a /proc of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lbproxy.status.owners import owners

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: {} {} 01 00000000:00000000 00:00000000 00000000  1000        0 {} 1 0000000000000000 20 4 30 10 -1\n"
PROXY = "0100007F:192B"
"""127.0.0.1:6443, in the order of bytes of a little-endian machine."""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Return a /proc with a kubelet that has sockets 7, 8 and 9, and a process that may not be looked into."""
    tables = {
        "tcp": [("0100007F:9C40", PROXY, 7), (PROXY, "0100007F:9C40", 1), ("0100007F:9C41", "0100007F:0050", 8)],
        "tcp6": [("0000000000000000FFFF00000100007F:9C42", f"0000000000000000FFFF0000{PROXY}", 9),
                 ("00000000000000000000000001000000:9C43", "00000000000000000000000001000000:192B", 5)],
    }  # fmt: skip
    (tmp_path / "net").mkdir()
    for name, rows in tables.items():
        (tmp_path / "net" / name).write_text(HEAD + "".join(ROW.format(*row) for row in rows))
    for pid, name, sockets in ((812, "kubelet", (7, 8, 9)), (5, "secret", ())):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "comm").write_text(f"{name}\n")
        for number in sockets:
            (tmp_path / str(pid) / "fd" / str(number)).symlink_to(f"socket:[{number}]")
    (tmp_path / "812" / "fd" / "0").symlink_to("/dev/null")
    return tmp_path


@pytest.mark.skipif("sys.byteorder != 'little'", reason="the files are those of a little-endian machine")
def test_a_client_is_the_process_that_has_its_socket(proc: Path) -> None:
    """By the address that the daemon sees, also where an IPv4 client has an IPv6 socket."""
    found = owners({"127.0.0.1:40000", "127.0.0.1:40002"}, {6443}, proc)
    assert found == {"127.0.0.1:40000": "kubelet[812]", "127.0.0.1:40002": "kubelet[812]"}


@pytest.mark.skipif("sys.byteorder != 'little'", reason="the files are those of a little-endian machine")
def test_who_cannot_be_seen_is_left_out(proc: Path) -> None:
    """Another's socket, one to another port, the proxy's own end, a client that has gone: no guess is made."""
    assert owners({"[::1]:40003", "127.0.0.1:40001", "127.0.0.1:6443", "127.0.0.1:1"}, {6443}, proc) == {}


def test_a_kernel_without_ipv6_has_no_table_of_it(proc: Path) -> None:
    """That is no error."""
    (proc / "net" / "tcp6").unlink()
    assert owners({"[::1]:40003"}, {6443}, proc) == {}
