"""What a process takes, held against what the kernel says by other ways."""

from __future__ import annotations

import os
import resource
import time

from lbproxy.process.usage import together, usage


def test_it_is_what_the_kernel_says() -> None:
    """Of this process: CPU time, memory in bytes, descriptors, and when it began."""
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    found = usage()
    for fd in held:
        os.close(fd)
    assert usage().open_fds == found.open_fds - 20
    assert found.max_fds == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 0 < found.resident_bytes < found.virtual_bytes
    assert abs(found.cpu_seconds - sum(os.times()[:2])) < 5
    assert found.started < time.time() - time.process_time() / (2 * os.cpu_count())


def test_several_are_as_one_that_began_with_the_first() -> None:
    """Workers and who supervises them."""
    one = usage()
    both = together([one, one])
    assert (both.resident_bytes, both.open_fds) == (2 * one.resident_bytes, 2 * one.open_fds)
    assert both.started == one.started
    assert together([one]) == one
