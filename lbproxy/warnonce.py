"""A complaint that is made once, and not with every try that meets the same."""

from __future__ import annotations


class WarnOnce:
    """Knows what has been complained of: the same is news again only after something else, or after it was over."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said = ""

    def news(self, complaint: str) -> bool:
        """Return whether to say so: `complaint` is not what was said last."""
        news = complaint != self._said
        self._said = complaint
        return news

    def over(self) -> bool:
        """Take in that all is well; returns whether something had been said."""
        return self.news("")
