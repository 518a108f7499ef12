"""The words for how a server stands. They are public: status JSON, metrics, `lbproxy status` and the page show them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """From the best to the worst. A check may say up, sick, draining and down; draining is also the operator's word.

    Unchecked is a server that checks are to tell of and have not yet: it may be used like one that is up.
    """

    UP = "up"
    UNCHECKED = "unchecked"
    SICK = "sick"
    DRAINING = "draining"
    DOWN = "down"
    DISABLED = "disabled"


SEVERITY: Final = {state: place for place, state in enumerate(State)}
"""Of two states the one with the higher number is the one to show and to act on."""
