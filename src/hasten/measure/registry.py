"""Counters, gauges and histograms in slots of float64, cheap to write and shared between workers.

Each worker writes its own file of slots and nobody else's; whoever is asked for the metrics reads the files of all
workers and adds them up. So a scrape needs no other worker's help, a frozen one cannot hold it up, and what a
worker counted before it died stays counted. (The idea of one mapped file a process is that of Prometheus's Python
client.) A record of a file: key length (u32), slots (u32), key padded to 8 bytes, the slots.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

_HEAD = struct.Struct("=8sQ")  # magic, bytes in use
_RECORD = struct.Struct("=II")
_MAGIC = b"HASTEN01"
_GROW = 256 * 1024

#: Put behind the name of an ended worker's file.
ENDED = ".ended"

#: A family's name with the values of its labels.
Key = tuple[str, tuple[str, ...]]


class Slots:
    """Named runs of float64 slots, in a mapped file or (``path`` is ``None``) in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = path.open("w+b") if path is not None else None
        self._map: mmap.mmap | None = None
        self._size = 0
        self._used = _HEAD.size
        self.view: memoryview[float] = memoryview(b"").cast("d")
        self._raw: mmap.mmap | bytearray = bytearray()
        self._grow()

    def reserve(self, key: Key, count: int) -> int:
        """Return the index in :attr:`view` of ``count`` new slots, all zero."""
        name = msgspec.json.encode(key)
        room = _RECORD.size + -(-len(name) // 8) * 8
        while self._used + room + 8 * count > self._size:
            self._grow()
        start = self._used
        _RECORD.pack_into(self._raw, start, len(name), count)
        self._raw[start + _RECORD.size : start + _RECORD.size + len(name)] = name
        self._used = start + room + 8 * count
        _HEAD.pack_into(self._raw, 0, _MAGIC, self._used)  # last: a reader sees whole records only
        return (start + room) // 8

    def _grow(self) -> None:
        size = self._size + _GROW
        if self._file is not None:
            self._file.truncate(size)
            # The old mapping stays valid for whoever holds it and shows the same file; it goes with its last user.
            self._raw = mmap.mmap(self._file.fileno(), size)
        else:
            self._raw = bytearray(bytes(self._raw).ljust(size, b"\0"))
        self._size = size
        _HEAD.pack_into(self._raw, 0, _MAGIC, self._used)
        self.view = memoryview(self._raw).cast("d")

    def snapshot(self) -> bytes:
        """Return what is in use, for :func:`read`."""
        return bytes(memoryview(self._raw)[: self._used])

    def close(self) -> None:
        """Close the file; it stays."""
        if self._file is not None:
            self._file.close()


class Reader:
    """Reads a file's content again and again; the names, which are only added to, once."""

    __slots__ = ("_at", "_series")

    def __init__(self) -> None:
        self._at = _HEAD.size
        self._series: dict[str, list[tuple[Key, int, int]]] = {}  # by family: key, first slot, slots

    def read(self, data: bytes, names: tuple[str, ...] = ("",)) -> dict[Key, list[float]]:
        """Return the slots of the families whose names begin with one of ``names``; an empty dict if ``data`` is not
        such a file's content (yet)."""
        if len(data) < _HEAD.size:
            return {}
        magic, used = _HEAD.unpack_from(data)
        if magic != _MAGIC or used > len(data):
            return {}
        while self._at < used:
            length, count = _RECORD.unpack_from(data, self._at)
            key = self._at + _RECORD.size
            name, labels = msgspec.json.decode(data[key : key + length])
            slots = key + -(-length // 8) * 8
            self._series.setdefault(name, []).append(((name, tuple(labels)), slots // 8, count))
            self._at = slots + 8 * count
        view = memoryview(data)[: used // 8 * 8].cast("d")
        return {
            key: list(view[at : at + count])
            for name, series in self._series.items()
            if name.startswith(names)
            for key, at, count in series
        }


def read(data: bytes) -> dict[Key, list[float]]:
    """Return all slots of a file's content; an empty dict if it is not one (yet)."""
    return Reader().read(data)


def merge(parts: Iterable[dict[Key, list[float]]]) -> dict[Key, list[float]]:
    """Add up slots key by key."""
    total: dict[Key, list[float]] = {}
    for part in parts:
        for key, values in part.items():
            have = total.get(key)
            if have is None or len(have) != len(values):
                total[key] = list(values)
            else:
                total[key] = [a + b for a, b in zip(have, values, strict=True)]
    return total


class Value:
    """One counter or gauge."""

    __slots__ = ("_at", "_slots")

    def __init__(self, slots: Slots, at: int) -> None:
        self._slots = slots
        self._at = at

    def add(self, amount: float = 1.0) -> None:
        """Count ``amount`` more."""
        self._slots.view[self._at] += amount

    def set(self, value: float) -> None:
        """Be ``value`` (gauges)."""
        self._slots.view[self._at] = value

    @property
    def value(self) -> float:
        """The value now."""
        return float(self._slots.view[self._at])


def buckets(values: Iterable[float], bounds: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Yield which buckets hold some of ``values``, and how many.

    Bucket i holds what is less than or equal to bound i, and greater than the one before; the last one holds the rest.
    """
    ordered = sorted(values)  # so a step a bucket is enough, in place of one a value
    below, total = 0, len(ordered)
    while below < total:
        bucket = bisect_left(bounds, ordered[below])
        upto = bisect_right(ordered, bounds[bucket], below) if bucket < len(bounds) else total
        yield bucket, upto - below
        below = upto


class Histogram:
    """Counts per bucket, not cumulative, then the count over the last bound, then the sum."""

    __slots__ = ("_at", "_bounds", "_slots")

    def __init__(self, slots: Slots, at: int, bounds: Sequence[float]) -> None:
        self._slots = slots
        self._at = at
        self._bounds = bounds

    def observe(self, values: Sequence[float]) -> None:
        """Count ``values``."""
        view = self._slots.view
        for bucket, count in buckets(values, self._bounds):
            view[self._at + bucket] += count
        view[self._at + len(self._bounds) + 1] += sum(values)


class Family:
    """A metric: name, kind (``counter``, ``gauge``, ``histogram``; ``summary``: quantiles), help, labels, bounds."""

    def __init__(
        self, name: str, kind: str, help: str, labels: Sequence[str] = (), bounds: Sequence[float] = ()
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.labels = tuple(labels)
        self.bounds = tuple(bounds)

    @property
    def size(self) -> int:
        """Slots that one series takes."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    def __repr__(self) -> str:
        return f"<Family {self.name} {self.kind} {','.join(self.labels)}>"


class Registry:
    """The series of one worker."""

    def __init__(self, families: Iterable[Family], path: Path | None = None) -> None:
        self.families = {family.name: family for family in families}
        self.path = path
        self._slots = Slots(path)
        self._values: dict[Key, Value] = {}
        self._histograms: dict[Key, Histogram] = {}
        self._own = Reader()
        self._others: dict[Path, Reader] = {}

    def value(self, name: str, *labels: str) -> Value:
        """Return a counter or gauge, made at its first use."""
        key = (name, labels)
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = Value(self._slots, self._reserve(key))
        return value

    def histogram(self, name: str, *labels: str) -> Histogram:
        """Return a histogram, made at its first use."""
        key = (name, labels)
        histogram = self._histograms.get(key)
        if histogram is None:
            bounds = self.families[name].bounds
            histogram = self._histograms[key] = Histogram(self._slots, self._reserve(key), bounds)
        return histogram

    def _reserve(self, key: Key) -> int:
        name, labels = key
        family = self.families[name]
        if len(labels) != len(family.labels):
            raise ValueError(f"{name} has the labels {family.labels}, not {labels}")
        return self._slots.reserve(key, family.size)

    def close(self) -> None:
        """Close the file; it stays for the others to read."""
        self._slots.close()

    def _counts(self, name: str) -> bool:
        family = self.families.get(name)
        return family is not None and family.kind != "gauge"

    def collect(self, names: tuple[str, ...] = ("",)) -> dict[Key, list[float]]:
        """Return the slots of this worker and, where it has a file, of all workers beside it; of the families whose
        names begin with one of ``names``.

        Of a worker that ended (its file's name ends in :data:`ENDED`) the counts stay, its gauges do not. A gauge that
        is not a number stands for what is not known now, and is left out.
        """
        parts = [self._own.read(self._slots.snapshot(), names)]
        if self.path is not None:
            others = set(self.path.parent.glob(f"*{self.path.suffix}*")) - {self.path}
            self._others = {path: self._others.get(path) or Reader() for path in sorted(others)}
            for path, reader in self._others.items():
                try:
                    found = reader.read(path.read_bytes(), names)
                except OSError:
                    continue
                if path.suffix == ENDED:
                    found = {k: v for k, v in found.items() if self._counts(k[0])}
                parts.append(found)
        return {key: values for key, values in merge(parts).items() if values[0] == values[0]}
