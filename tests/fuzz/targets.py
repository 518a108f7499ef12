"""All targets, by name, and which modules that read bytes need none."""

from __future__ import annotations

from typing import Final

from tests.fuzz import answers, files, handed, imported, opening, talk
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for module in (opening, files, imported, talk, answers, handed)
    for target in module.TARGETS
}  # fmt: skip
