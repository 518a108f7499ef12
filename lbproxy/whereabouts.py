"""Which daemon is meant: where its control socket is."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lbproxy.config.model import DEFAULT_CONTROL, DEFAULT_FILE
from lbproxy.errors import LbproxyError, NoDaemonError


def control_of(args: argparse.Namespace) -> str:
    """Return the control socket: --control, $LBPROXY_CONTROL, `control` of -c FILE or the default file, or the default.

    Raises NoDaemonError for a FILE that is not there, LbproxyError for one that may not be read.
    """
    if named := getattr(args, "control", None) or os.environ.get("LBPROXY_CONTROL"):
        return str(named)
    if hasattr(args, "config"):
        return _said_by(args.config)
    if Path(DEFAULT_FILE).exists() and os.access(DEFAULT_FILE, os.R_OK):
        return _said_by(DEFAULT_FILE)
    return DEFAULT_CONTROL


def _said_by(file: str) -> str:
    """Return what `file` says, which may be broken: the daemon runs on, and is the one to say what is wrong with it."""
    from lbproxy.config.load import control_of

    try:
        control = control_of(file)
    except OSError as error:
        kind = LbproxyError if isinstance(error, PermissionError) else NoDaemonError
        raise kind(f"cannot look up the daemon: {file}: cannot be read: {error.strerror}") from None
    if control is None:
        print(f"lbproxy: {file} cannot be read up to `control`, asking {DEFAULT_CONTROL}", file=sys.stderr)
    return control or DEFAULT_CONTROL
