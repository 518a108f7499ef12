"""The second unix socket, for those who may look and do nothing else: `status`, `conns`, `events`.

It has the control socket's name in a directory beside that one's, `/run/lbproxy-status/control.sock`, and is there
where that directory is. systemd-tmpfiles makes it for the group that may look, set-group-ID: so a file in it belongs to
the group, although the service, which knows no group but its own (PrivateUsers), could give it to nobody.
"""

from __future__ import annotations

import os
import stat
from typing import Final

MODE: Final = 0o660


def beside(control: str) -> str:
    """Return its path, by that of the control socket."""
    directory, name = os.path.split(os.path.abspath(control))
    return os.path.join(f"{directory}-status", name)


def offered(control: str) -> str | None:
    """Return its path if it is to be made: in a directory that root or this user has made for it."""
    path = beside(control)
    try:
        found = os.stat(os.path.dirname(path))
    except OSError:
        return None
    ours = found.st_uid in (0, os.geteuid()) and not found.st_mode & stat.S_IWOTH
    return path if ours and found.st_mode & stat.S_ISGID else None


def also(control: str) -> str:
    """Return in words who else may ask for what, where there is a place for it."""
    there = os.path.isdir(os.path.dirname(beside(control)))
    return "; members of lbproxy-status may look (status, conns, events)" if there else ""


def for_looking(control: str) -> str:
    """Return the socket to ask how things stand: this one if the control socket is closed to us and it is not."""
    path = beside(control)
    return path if not os.access(control, os.W_OK) and os.access(path, os.W_OK) else control
