"""Counts over sliding windows, added up over the workers of a machine, without a lock.

Time is cut into slices. What is counted goes into the open slice; a slice that is over is sealed: packed into bytes
that never change again, added to each window it lies in, and taken away from it when it lies there no longer. So a
window is a sum that is ready when asked for. Narrow slices flow into wider ones, which serve the longer windows; what
is not in a sealed wide slice yet is taken from the narrow ones (their level's tail).

Workers hand each other their sealed slices, so each of them holds the same sums, and what a worker counted stays when
it ends. A window ends with the last sealed slice of the narrowest level, and begins where one of its own slices does:
so it is too long by less than one of these. All workers cut alike, by the machine's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import NamedTuple

import msgspec

#: What is counted: its kind, and of whom: a dimension and a value of it.
Series = tuple[str, str, str]
#: Of each series counts by a small number, such as a sketch's buckets.
Part = dict[Series, dict[int, int]]

OTHER = "(other)"  # no name of the settings has parentheses
VALUES = 64  # of each dimension; further ones are counted as OTHER

_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(list[tuple[Series, dict[int, int]]])


class Sealed(NamedTuple):
    """A slice that is over: slice number ``slot`` of those ``width`` seconds wide."""

    width: int
    slot: int
    data: bytes


class Window:
    """The sum of the last ``slices`` sealed slices."""

    __slots__ = ("_kept", "slices", "total")

    def __init__(self, slices: int) -> None:
        self.slices = slices
        self.total: Part = {}
        self._kept: dict[int, list[bytes]] = {}

    def put(self, slot: int, data: bytes, part: Part) -> None:
        """Add slice ``slot``, or another worker's of the same time; ``data`` is ``part`` packed."""
        self._kept.setdefault(slot, []).append(data)
        add(self.total, part)

    def move(self, now: int) -> None:
        """Let slice ``now`` be the open one: take away what lies too far back."""
        for slot in [slot for slot in self._kept if slot < now - self.slices]:
            for data in self._kept.pop(slot):
                _take(self.total, unpack(data))


class _Level:
    """Slices of one width, and the windows made of them."""

    __slots__ = ("open", "slot", "tail", "width", "windows")

    def __init__(self, width: int, windows: list[Window], now: float) -> None:
        self.width = width
        self.windows = windows
        self.open: Part = {}
        self.tail: Part = {}  # the sum of the sealed slices that lie in the open one of the next wider level
        self.slot = int(now // width)


class Ledger:
    """Counts of one worker and of those it hears of.

    ``windows``: the widths of the slices, seconds, each a multiple of the one before, and the windows that are made
    of them, seconds. ``clock``: seconds, the same for all workers. ``values``: of each dimension, how many are told
    apart at a time.
    """

    def __init__(
        self,
        windows: Mapping[int, tuple[int, ...]],
        clock: Callable[[], float] = monotonic,
        values: int = VALUES,
    ) -> None:
        self.clock = clock
        self._values = values
        self._windows = {
            seconds: Window(seconds // width) for width, given in windows.items() for seconds in given
        }
        now = clock()
        self._levels = [
            _Level(width, [self._windows[seconds] for seconds in given], now)
            for width, given in windows.items()
        ]
        self._known: dict[str, set[str]] = {}
        self.version = 0  # changes whenever a window may have

    def add(self, part: Part) -> None:
        """Count ``part`` as of now."""
        if any(0 in counts.values() for counts in part.values()):
            part = _without_zeros(part)
        add(self._levels[0].open, self._bounded(part))

    def tick(self) -> list[Sealed]:
        """Seal the slices that are over and return them; to be called a few times a second."""
        now = self.clock()
        sealed = []
        neighbours = zip([None, *self._levels], self._levels, [*self._levels[1:], None], strict=False)
        for narrower, level, wider in neighbours:
            slot = int(now // level.width)
            if slot == level.slot:
                break  # nor is a wider one over
            part, level.open = level.open, {}
            if part:
                sealed.append(Sealed(level.width, level.slot, pack(part)))
                self._put(level, sealed[-1], part)
                if wider is not None:
                    add(wider.open, part)
            level.slot = slot
            self.version += 1
            if narrower is not None:
                narrower.tail = {}
            for window in level.windows:
                window.move(slot)
            if wider is None:
                self._forget()
        return sealed

    def hear(self, sealed: Sealed) -> None:
        """Add another worker's slice."""
        for level in self._levels:
            if level.width == sealed.width:
                told = unpack(sealed.data)
                part = self._bounded(told)
                self._put(level, sealed if part is told else sealed._replace(data=pack(part)), part)

    def _put(self, level: _Level, sealed: Sealed, part: Part) -> None:
        self.version += 1
        for window in level.windows:
            if sealed.slot >= level.slot - window.slices:
                window.put(sealed.slot, sealed.data, part)
        wider = next((other for other in self._levels if other.width > level.width), None)
        if wider is not None and sealed.slot * level.width // wider.width == wider.slot:
            add(level.tail, part)

    def series(self, seconds: int) -> set[Series]:
        """Return of what there are counts in the window of ``seconds``."""
        return {series for part in self._parts(seconds) for series in part}

    def counts(self, series: Series, seconds: int) -> dict[int, int]:
        """Return the counts of the window of ``seconds``; to be read only, and not kept."""
        found = [part[series] for part in self._parts(seconds) if series in part]
        if len(found) == 1:
            return found[0]
        total: Part = {}
        for counts in found:
            add(total, {series: counts})
        return total.get(series, {})

    def _parts(self, seconds: int) -> list[Part]:
        window = self._windows[seconds]
        parts = [window.total]
        for level in self._levels:
            if window in level.windows:
                break
            parts.append(level.tail)
        return parts

    @property
    def reach(self) -> dict[int, int]:
        """By width, the oldest slice that is still of use."""
        return {
            level.width: level.slot - max((window.slices for window in level.windows), default=0)
            for level in self._levels
        }

    def _bounded(self, part: Part) -> Part:
        """Return ``part`` with the values that are too many counted as :data:`OTHER`; itself if there are none."""
        strange: set[Series] = set()
        for series in part:
            _, dimension, value = series
            known = self._known.setdefault(dimension, {OTHER})
            if value not in known:
                if len(known) > self._values:
                    strange.add(series)
                else:
                    known.add(value)
        if not strange:
            return part
        bounded = {series: counts for series, counts in part.items() if series not in strange}
        for series in strange:
            kind, dimension, _ = series
            add(bounded, {(kind, dimension, OTHER): part[series]})
        return bounded

    def _forget(self) -> None:
        """Let go of the values of which no window holds anything."""
        parts = [window.total for window in self._windows.values()]
        parts += [part for level in self._levels for part in (level.open, level.tail)]
        self._known = {}
        for part in parts:
            for _, dimension, value in part:
                self._known.setdefault(dimension, {OTHER}).add(value)


def _without_zeros(part: Part) -> Part:
    """Return ``part`` without the counts that are 0: they are taken away with the last one, and with the first."""
    found = {series: {at: count for at, count in counts.items() if count} for series, counts in part.items()}
    return {series: counts for series, counts in found.items() if counts}


def add(total: Part, part: Part) -> None:
    """Add ``part`` to ``total``."""
    for series, counts in part.items():
        have = total.get(series)
        if have is None:
            total[series] = dict(counts)
        else:
            for at, count in counts.items():
                have[at] = have.get(at, 0) + count


def _take(total: Part, part: Part) -> None:
    """Take ``part``, which was added, away from ``total``."""
    for series, counts in part.items():
        have = total[series]
        for at, count in counts.items():
            left = have[at] - count
            if left:
                have[at] = left
            else:
                del have[at]
        if not have:
            del total[series]


def pack(part: Part) -> bytes:
    """Return ``part`` as bytes."""
    return _packer.encode(list(part.items()))


def unpack(data: bytes) -> Part:
    """Return what :func:`pack` was given; raise :class:`msgspec.DecodeError` if it is not that."""
    return dict(_unpacker.decode(data))
