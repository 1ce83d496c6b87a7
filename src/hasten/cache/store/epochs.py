"""What this process knows of invalidations.

An epoch is the time of a tag's last invalidation, in microseconds, made larger where needed so that epochs only
grow. Being times, they stay in order when a store loses them: a server that restarts empty, a file begun anew.

At most :data:`KEPT` tags are remembered, here and in the store. When there are more, the older half is folded into
``all``, which every entry carries: of what was asked before the last of them nothing is served any more, whatever its
tags. So folding may rule out too much, never too little, and what was asked since is not touched by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hasten.cache.entry import Entry

KEPT = 10_000
ALL = "all"


class Epochs:
    """The epochs known so far. ``seen``: the greatest that the store told; it is asked for those after it."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._latest = 0
        self.seen = 0

    def of(self, tags: Sequence[str]) -> tuple[int, ...]:
        """Return for each tag the epoch that an entry which begins now need not fear.

        That is ``seen``, as all up to it are known here, or a later one that this process began itself.
        """
        known, seen = self._known, self.seen
        return tuple([max(known.get(tag, 0), seen) for tag in tags]) if known else (seen,) * len(tags)

    def begin(self, tags: Sequence[str], now: float) -> int:
        """Begin a new epoch of each tag here, at ``now`` (Unix seconds); return it, to be told to the store."""
        epoch = max(int(now * 1e6), self._latest + 1)
        self._take((tag, epoch) for tag in tags)
        return epoch

    def learn(self, news: Sequence[tuple[str, int]]) -> None:
        """Take over what the store told: all epochs after ``seen``."""
        self._take(news)
        # Only here, not in begin(): another process may have begun one just before, which we have not read yet.
        self.seen = max(self.seen, max((epoch for _, epoch in news), default=0))

    def _take(self, news: Iterable[tuple[str, int]]) -> None:
        for tag, epoch in news:
            self._known[tag] = max(epoch, self._known.get(tag, 0))
            self._latest = max(epoch, self._latest)
        if len(self._known) > KEPT:
            floor = sorted(self._known.values())[len(self._known) - KEPT // 2]
            self._known = {tag: epoch for tag, epoch in self._known.items() if epoch > floor}
            self._known[ALL] = max(floor, self._known.get(ALL, 0))

    def allow(self, entry: Entry) -> bool:
        """Whether none of the entry's tags was invalidated after its request began."""
        known = self._known
        if not known or not entry.tags:
            return True
        began = entry.epochs or (0,) * len(entry.tags)
        return all(epoch >= known.get(tag, 0) for tag, epoch in zip(entry.tags, began, strict=False))
