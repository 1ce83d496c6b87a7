"""The nearest vectors of the disk store: an index in this process, filled from a file that others write too."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hasten.cache.entry import Entry
from hasten.cache.store.base import Near
from hasten.cache.store.codec import Codec
from hasten.cache.store.index import VectorIndex

if TYPE_CHECKING:
    from hasten.cache.store.base import Vector

SLICE = 0.002  # seconds that a search may spend on taking in what is new
BATCH = 32  # vectors read at once
ROUNDS = 8  # searches of one call: after one that found what is gone comes another
AUDIT = 256  # vectors taken in for a scope between two looks for those whose entries are gone

NEWS = "SELECT seq, key, vector FROM vectors WHERE scope = ? AND seq > ? ORDER BY seq LIMIT ?"


class Scope:
    """What the index has of a scope."""

    def __init__(self) -> None:
        self.seen = 0  # the sequence number up to which the file was read
        self.keys: set[bytes] = set()
        self.since_audit = 0
        self.width = 0


class Neighbours:
    """The index, kept up to date with the file; used by one thread.

    A scope is read when it is first asked for. What is added later, here or by others, has a greater sequence
    number; what was deleted is noticed when it is found and its entry is not, and now and then all at once.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._connection: sqlite3.Connection | None = None
        self._scopes: dict[bytes, Scope] = {}
        self._index = VectorIndex()

    def take_in(self, connection: sqlite3.Connection, name: bytes) -> bool:
        """Take in vectors of a scope for a little while; return whether there are more."""
        if connection is not self._connection:  # another file
            self._connection, self._scopes, self._index = connection, {}, VectorIndex()
        scope = self._scopes.setdefault(name, Scope())
        until = time.perf_counter() + SLICE
        while True:
            rows = connection.execute(NEWS, (name, scope.seen, BATCH)).fetchall()
            for seq, key, data in rows:
                scope.seen = seq
                plain = self._codec.open(key, data)
                if plain is None:
                    continue
                vector = np.frombuffer(plain, np.float16).astype(np.float32)
                scope.width = scope.width or len(vector)
                if len(vector) == scope.width:  # others are of another model
                    self._index.add(name, key, vector)
                    scope.keys.add(key)
            scope.since_audit += len(rows)
            if len(rows) < BATCH:
                break
            if time.perf_counter() > until:
                return True
        if scope.since_audit >= max(AUDIT, len(scope.keys) // 2):
            self._audit(connection, name, scope)
        return False

    def near(
        self,
        connection: sqlite3.Connection,
        name: bytes,
        vector: Vector,
        limit: int,
        servable: Callable[[Entry], bool],
    ) -> list[Near]:
        """Return the nearest entries of those taken in; the ones found that are gone are forgotten on the way."""
        near: list[Near] = []
        if len(vector) != self._scopes[name].width:
            return near
        for _ in range(ROUNDS):
            near, gone = [], []
            for key, similarity in self._index.near(name, vector, limit):
                row = connection.execute("SELECT packed FROM entries WHERE key = ?", (key,)).fetchone()
                entry = self._codec.decode(key, row[0]) if row else None
                if entry is None or not servable(entry):
                    gone.append(key)
                else:
                    near.append(Near(entry, similarity))
            for key in gone:
                self.forget(name, key)
            if not gone:
                break
        return near

    def forget(self, name: bytes, key: bytes) -> None:
        """Take a vector out."""
        scope = self._scopes.get(name)
        if scope is not None and key in scope.keys:
            scope.keys.discard(key)
            self._index.remove(name, key)

    def forget_absent(self, connection: sqlite3.Connection) -> None:
        """Take out all vectors whose entries are gone."""
        for name, scope in self._scopes.items():
            self._audit(connection, name, scope)

    def _audit(self, connection: sqlite3.Connection, name: bytes, scope: Scope) -> None:
        kept = {key for (key,) in connection.execute("SELECT key FROM vectors WHERE scope = ?", (name,))}
        for key in scope.keys - kept:
            self.forget(name, key)
        scope.since_audit = 0
