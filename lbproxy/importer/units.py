"""Times and numbers as nginx and HAProxy write them, as text of lbproxy.yaml.

What they cannot be is left as it is: whoever puts it into a key is told what it must be.
"""

from __future__ import annotations

import re
from typing import Final

from lbproxy.config.scalars import duration

_NGINX: Final = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000}
"""nginx, "Configuration file measurement units"; a month has 30 days, a year 365."""
_HAPROXY: Final = {"us": 1e-6, "ms": 0.001, "": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
"""HAProxy, "Time format": without a unit it is milliseconds."""
_PART: Final = r"(\d{1,12})(?!\d)(ms|[smhdwMy]?)"
"""A number goes to its last digit: were it cut anywhere, forty digits could be cut in more ways than can be tried."""
_PARTS: Final = re.compile(rf"(?:{_PART} *)+")
_TIME: Final = re.compile(r"(\d{1,12})(us|ms|[smhd]?)")
_WHOLE: Final = re.compile(r"\d{1,12}")


def nginx_time(text: str) -> str:
    """Return a time such as `10m`, `1h 30m` or `60` (seconds)."""
    if not _PARTS.fullmatch(text):
        return text
    return duration(float(sum(int(number) * _NGINX[unit] for number, unit in re.findall(_PART, text))))


def haproxy_time(text: str) -> str:
    """Return a time such as `15s` or `5000` (milliseconds)."""
    found = _TIME.fullmatch(text)
    return duration(int(found[1]) * _HAPROXY[found[2]]) if found else text


def whole(text: str) -> str:
    """Return a whole number without leading zeros."""
    return str(int(text)) if _WHOLE.fullmatch(text) else text
