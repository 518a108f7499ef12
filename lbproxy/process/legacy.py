"""What the next process finds besides connections: the configuration in force, and what has happened."""

from __future__ import annotations

from lbproxy.handover.inherit import Inherited
from lbproxy.handover.keeper import events_file, remember
from lbproxy.process import log as logs
from lbproxy.process.systemd import Notifier


class Legacy:
    """Leaves it in the fd store of `notifier`, if there is one; `inherited` is what the process before has left."""

    def __init__(self, notifier: Notifier, inherited: Inherited) -> None:
        self.events = -1
        """The descriptor of the file with what has happened, -1 for none."""
        self._notifier = notifier
        self._inherited = inherited

    def go_on(self) -> None:
        """Go on with the events of the process before. Called once connections move."""
        self.events = self._inherited.events
        if self.events < 0 and self._notifier.keeps:
            self.events = events_file(self._notifier)
        if self.events >= 0:
            logs.keep_events(self.events)

    def configuration(self, content: bytes) -> None:
        """Leave the configuration in force."""
        if self._notifier.keeps:
            remember(self._notifier, content)
