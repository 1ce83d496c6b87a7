"""Nearest vectors in memory, by scope. Few of them are all compared; beyond that a graph is searched (HNSW).

A number of a vector is kept in 8 bits, scaled by the vector's largest: a similarity is off by 0.0005 or so, 0.0016 at
most, and takes a quarter of float32's memory; numpy computes with float16 seven times more slowly.
"""

from __future__ import annotations

import functools
import heapq
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hasten.cache.store.base import Vector

    Row = NDArray[np.int8]

FEW = 512  # vectors; to compare so many takes as long as to search a graph of as many, 0.1 ms
MOVED = 2  # vectors taken into a graph by one call
SCOPE_BYTES = 240  # a scope of one vector, without the vector: dictionary, array header
NODE_BYTES = 440  # a vector in a graph, without its numbers: links, key tables
# Measured on vectors in clusters: of the true three nearest 0.99 are found among 10,000 and 0.985 among 100,000 (0.955
# with 48 to search). On a busy machine an addition takes 0.2 to 0.6 ms, a search 0.2 to 1.3 ms.
GRAPH = {"metric": "cos", "dtype": "i8", "connectivity": 16, "expansion_add": 48, "expansion_search": 96}


class VectorIndex:
    """Vectors (float32, unit length, one width a scope) by scope and key. Not for several threads at once.

    ``nbytes``: the memory it takes, but for the keys, which are the caller's. Without the package ``usearch`` all are
    compared, always: exact, and slow for many thousands.
    """

    def __init__(self) -> None:
        self._scopes: dict[bytes, _Few | _Many] = {}
        self.nbytes = 0

    def __contains__(self, scope: object) -> bool:
        return scope in self._scopes

    def count(self, scope: bytes) -> int:
        """Return how many vectors ``scope`` has."""
        held = self._scopes.get(scope)
        return len(held) if held is not None else 0

    def add(self, scope: bytes, key: bytes, vector: Vector) -> None:
        """Keep ``vector`` under ``key``, replacing what is there."""
        held = self._scopes.get(scope)
        if held is None:
            held = self._scopes[scope] = _Few((), np.empty((0, len(vector) + _SCALE), np.int8))
            self.nbytes += SCOPE_BYTES
        before = held.nbytes
        held.remove(key)
        held.add(key, _row(vector))
        self._account(scope, held, before)

    def remove(self, scope: bytes, key: bytes) -> None:
        """Forget a vector; nothing happens if there is none."""
        held = self._scopes.get(scope)
        if held is not None:
            before = held.nbytes
            held.remove(key)
            self._account(scope, held, before)

    def drop(self, scope: bytes) -> None:
        """Forget all of ``scope`` at once."""
        held = self._scopes.pop(scope, None)
        if held is not None:
            self.nbytes -= held.nbytes + SCOPE_BYTES

    def near(self, scope: bytes, vector: Vector, limit: int) -> list[tuple[bytes, float]]:
        """Return up to ``limit`` (key, cosine similarity) of ``scope``, the most similar first."""
        held = self._scopes.get(scope)
        return held.near(vector, limit) if held is not None else []

    def _account(self, scope: bytes, held: _Few | _Many, before: int) -> None:
        self.nbytes += held.nbytes - before
        if not len(held):
            self.drop(scope)
            return
        if isinstance(held, _Few):
            if len(held) <= FEW or (kind := _graph_kind()) is None:
                return
            other: _Few | _Many = _Many(held, kind)
        elif held.small:
            other = held.few
        else:
            return
        self._scopes[scope] = other
        self.nbytes += other.nbytes - held.nbytes


class _Few(msgspec.Struct, gc=False):
    """Keys, and as many rows of one matrix (the rest of it is free). There are very many of these, of one row each."""

    keys: tuple[bytes, ...]
    rows: Any  # NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes) + 8 * len(self.keys)

    def add(self, key: bytes, row: Row) -> None:
        """Add a row under a key that has none."""
        at = len(self.keys)
        if at == len(self.rows):
            self._resize(at + at // 4 + 1)
        self.rows[at] = row
        self.keys += (key,)

    def remove(self, key: bytes) -> None:
        if key in self.keys:
            self.take(self.keys.index(key))

    def take(self, at: int) -> tuple[bytes, Row]:
        """Take out a row; the last one moves into the gap."""
        taken = self.keys[at], self.rows[at].copy()
        last = len(self.keys) - 1
        self.rows[at] = self.rows[last]
        self.keys = (*self.keys[:at], *([self.keys[last]] if at < last else []), *self.keys[at + 1 : last])
        if last < len(self.rows) // 2:
            self._resize(last)
        return taken

    def near(self, vector: Vector, limit: int) -> list[tuple[bytes, float]]:
        rows = self.rows[: len(self.keys)]
        scores = (rows[:, :-_SCALE].astype(np.float32) @ vector) * rows[:, -_SCALE:].view(np.float32)[:, 0]
        best = np.argsort(-scores, kind="stable")[:limit]
        return [(self.keys[at], float(scores[at])) for at in best]

    def _resize(self, count: int) -> None:
        rows = np.empty((count, self.rows.shape[1]), np.int8)
        kept = len(self.keys)
        rows[:kept] = self.rows[:kept]
        self.rows = rows


class _Many:
    """A graph; the few that it grew from or that were added last; an older graph with many gaps, if there is one.

    Each call moves a vector or two from these into the graph, so that none takes long.
    """

    def __init__(self, few: _Few, kind: Any) -> None:
        self.few = few
        self._kind = kind
        self._graph = _Graph(few.rows.shape[1] - _SCALE, kind)
        self._old: _Graph | None = None

    def __len__(self) -> int:
        return len(self.few) + len(self._graph) + (len(self._old) if self._old is not None else 0)

    @property
    def nbytes(self) -> int:
        return self.few.nbytes + self._graph.nbytes + (self._old.nbytes if self._old is not None else 0)

    @property
    def small(self) -> bool:
        """Whether the graph is needed no more."""
        return not len(self._graph) and self._old is None and len(self.few) <= FEW // 2

    def add(self, key: bytes, row: Row) -> None:
        self.few.add(key, row)
        for _ in range(MOVED):
            if len(self.few):
                self._graph.add(*self.few.take(len(self.few) - 1))
        self._mend()

    def remove(self, key: bytes) -> None:
        self.few.remove(key)
        for graph in (self._graph, self._old):
            if graph is not None:
                graph.remove(key)
        self._mend()

    def near(self, vector: Vector, limit: int) -> list[tuple[bytes, float]]:
        found = self.few.near(vector, limit) if len(self.few) else []
        row = _row(vector)[:-_SCALE]
        for graph in (self._graph, self._old):
            if graph is not None and len(graph):
                found += graph.near(row, limit)
        return heapq.nlargest(limit, found, key=lambda pair: pair[1])

    def _mend(self) -> None:
        """Begin anew where there are more gaps than vectors, a little at a time."""
        if self._old is None:
            if self._graph.gaps <= len(self._graph) + FEW // 2:
                return
            self._old, self._graph = self._graph, _Graph(self.few.rows.shape[1] - _SCALE, self._kind)
        for _ in range(MOVED):
            if len(self._old):
                into = self.few if len(self) <= FEW // 4 else self._graph
                into.add(*self._old.take())
        if not len(self._old):
            self._old = None


class _Graph:
    """An HNSW graph of usearch's (Malkov and Yashunin, 2016). The room of what is removed is used again."""

    def __init__(self, width: int, kind: Any) -> None:
        self._graph = kind(ndim=width, **GRAPH)
        self._width = width
        self._keys: list[bytes] = []  # by label
        self._labels: dict[bytes, int] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def gaps(self) -> int:
        """How many more vectors there is room for."""
        return len(self._free)

    @property
    def nbytes(self) -> int:
        # usearch's own figure is what it reserved, 16 MiB at first; what it did not write to is not taken.
        return len(self._keys) * (NODE_BYTES + self._width)

    def add(self, key: bytes, row: Row) -> None:
        if self._free:
            label = self._free.pop()
            self._keys[label] = key
        else:
            label = len(self._keys)
            self._keys.append(key)
        self._labels[key] = label
        self._graph.add(label, row[: self._width], threads=1)

    def remove(self, key: bytes) -> None:
        label = self._labels.pop(key, None)
        if label is not None:
            self._keys[label] = b""
            self._free.append(label)
            self._graph.remove(label)

    def take(self) -> tuple[bytes, Row]:
        """Take out any vector."""
        key, label = next(reversed(self._labels.items()))
        row: Row = self._graph.get(label)
        self.remove(key)
        return key, _with_scale(row)

    def near(self, row: Row, limit: int) -> list[tuple[bytes, float]]:
        found = self._graph.search(row, limit, threads=1)
        pairs = zip(found.keys.tolist(), found.distances.tolist(), strict=True)
        return [(self._keys[label], 1.0 - distance) for label, distance in pairs]


_SCALE = 4  # bytes at a row's end: a float32, the inverse of the length of its numbers as a vector


def _row(vector: Vector) -> Row:
    """Return a vector's numbers as int8, and their scale."""
    largest = float(np.abs(vector).max()) or 1.0
    return _with_scale(np.rint(vector * np.float32(127 / largest)).astype(np.int8))


def _with_scale(numbers: Row) -> Row:
    wide = numbers.astype(np.float32)
    length = float(np.sqrt(wide @ wide)) or 1.0
    row: Row = np.empty(len(numbers) + _SCALE, np.int8)
    row[:-_SCALE] = numbers
    row[-_SCALE:].view(np.float32)[0] = 1.0 / length
    return row


@functools.cache
def _graph_kind() -> Any:
    try:
        from usearch.index import Index
    except ImportError:
        return None
    return Index
