"""The log's way out: in order, never waited for, and honest about what is lost."""

import os
import select
import threading
from collections.abc import Iterator

import pytest

from lbproxy.process.output import Output
from tests.support.wait import until

ROOM = 256 << 10
"""Bytes that an Output takes in while nobody reads."""


class Pipe:
    """A pipe with an Output that writes into it; `told` is what it said of dropped lines."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.told: list[int] = []
        self.output = Output(self.writer, self.told.append)

    def read(self, until_idle: bool = False) -> bytes:
        """Return what comes next; with `until_idle` everything up to a moment in which nothing comes."""
        got = os.read(self.reader, 1 << 16)
        while until_idle and select.select([self.reader], [], [], 0.2)[0]:
            got += os.read(self.reader, 1 << 16)
        return got

    def overflow(self) -> int:
        """Write until lines are dropped; returns how many lines were written."""
        written = 0
        while not self.output.dropped:
            self.output.write(f"line {written}\n")
            written += 1
        return written


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Make one, and let its thread end."""
    pipe = Pipe()
    yield pipe
    for fd in {pipe.reader, pipe.writer} & {int(name) for name in os.listdir("/proc/self/fd")}:  # noqa: PTH208
        os.close(fd)
    pipe.output.close(10)


def test_lines_come_out_whole_and_in_order(pipe: Pipe) -> None:
    """However many there are at once."""
    lines = [f"{number} {'x' * (number % 500)}\n" for number in range(200)]
    for line in lines:
        pipe.output.write(line)
    until(lambda: select.select([pipe.reader], [], [], 0)[0])
    assert pipe.read(until_idle=True).decode() == "".join(lines)
    assert pipe.output.dropped == 0


def test_there_is_a_thread_only_while_there_are_lines(pipe: Pipe) -> None:
    """The waits of the loop cost less while it is alone; the next line has a thread again."""
    for line in (b"first\n", b"second\n"):
        pipe.output.write(line.decode())
        assert pipe.read() == line
        until(lambda: "log" not in {thread.name for thread in threading.enumerate()})


def test_one_write_is_no_longer_than_a_pipe_keeps_whole(pipe: Pipe) -> None:
    """Worker processes share the pipe: a longer write may have another's line in the middle."""
    os.close(pipe.reader)
    pipe.reader, writer = os.pipe2(os.O_DIRECT)  # each read returns one write
    os.dup2(writer, pipe.writer)
    os.close(writer)
    pipe.output.write("first\n")
    while pipe.output.dropped == 0:
        pipe.output.write("x" * 99 + "\n")
    for _ in range(20):
        packet = pipe.read()
        assert len(packet) <= select.PIPE_BUF
        assert packet.endswith(b"\n")


def test_what_nobody_reads_is_dropped_and_counted(pipe: Pipe) -> None:
    """The caller goes on; memory is bounded."""
    written = pipe.overflow()
    assert written * len("line 0\n") <= ROOM + (64 << 10) + select.PIPE_BUF
    pipe.output.write("two\nlines\n")
    assert pipe.output.dropped == 3
    assert pipe.told == []


def test_when_it_flows_again_the_loss_is_told_once(pipe: Pipe) -> None:
    """Who reads the log must know that it is not whole; what was taken in comes out first."""
    written = pipe.overflow()
    assert pipe.read(until_idle=True).decode() == "".join(f"line {number}\n" for number in range(written - 1))
    until(lambda: pipe.told == [1])
    pipe.output.write("on it goes\n")
    assert pipe.read(until_idle=True) == b"on it goes\n"
    assert pipe.told == [1]


def test_a_descriptor_that_takes_nothing_now_is_waited_for(pipe: Pipe) -> None:
    """A parent that shares the pipe may have made it non-blocking; a full one is then an error, and no loss."""
    os.set_blocking(pipe.writer, False)
    written = pipe.overflow()
    assert pipe.read(until_idle=True).count(b"\n") == written - 1


def test_a_reader_that_has_gone_is_a_loss_and_no_end(pipe: Pipe) -> None:
    """A log shipper is started again, and finds the pipe held by its supervisor; until then lines are lost."""
    os.close(pipe.reader)
    pipe.output.write("lost\n")
    until(lambda: pipe.output.dropped == 1)
    reader, writer = os.pipe()
    os.dup2(writer, pipe.writer)
    os.close(writer)
    pipe.reader = reader
    assert pipe.told == []
    pipe.output.write("found\n")
    assert pipe.read() == b"found\n"
    until(lambda: pipe.told == [1])


def test_a_close_waits_for_the_last_line(pipe: Pipe) -> None:
    """The end of a process is what one looks for in its log."""
    for number in range(1000):
        pipe.output.write(f"{number}\n")
    pipe.output.close(10)
    assert pipe.read(until_idle=True).endswith(b"\n999\n")
    pipe.output.write("late\n")
    assert pipe.output.dropped == 1


def test_a_close_does_not_wait_for_who_does_not_read(pipe: Pipe) -> None:
    """A process that is told to end has other things to do than to wait for its log."""
    pipe.overflow()
    pipe.output.close(0.01)
    assert pipe.read()
