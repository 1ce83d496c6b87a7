"""Entries in an SQLite file, shared by the worker processes of one machine, warm after a restart.

Three threads with a connection each: one reads, one writes, one searches vectors. So the event loop never waits for
the disk, and a burst of writes does not hold up a read: SQLite's write-ahead log lets both go on. What a process
wrote survives its being killed; a power failure may cost the last writes, but never the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hasten.cache.entry import Entry
from hasten.cache.store.base import Near, Stats
from hasten.cache.store.codec import Codec
from hasten.cache.store.database import BUSY, Lane, transaction
from hasten.cache.store.epochs import ALL, KEPT, Epochs
from hasten.cache.store.seal import Seal
from hasten.cache.store.trouble import trouble
from hasten.errors import StoreError

if TYPE_CHECKING:
    from hasten.cache.store.base import Vector
    from hasten.cache.store.neighbours import Neighbours

OVERHEAD = 512  # bytes that an entry takes in the file besides its own: keys, indexes
ROOM = 0.98  # what is left of the limit's bytes after making room: entries go in batches
BATCH = 64  # entries looked at together when making room
SWEEP = 16  # expired entries that one put deletes
LEAST_COST = 0.05  # seconds; what any entry is taken to save at least
HITS = 256  # keys whose use is noted before it is written without waiting for a put
SPARE = 256  # free pages that the file may keep, besides an eighth of it
CHUNK = 500  # entries that a purge deletes in one transaction
NEWEST = 4  # entries of a canonical key that are looked at

News = list[tuple[str, int]]

PUT = """
INSERT INTO entries
SELECT :key, :tenant, :scope, :canonical, :created, :stale_until, :size + held.bytes, 1, :worth,
    floor + :worth, :bare AND NOT held.bytes, :packed
FROM totals, (SELECT coalesce((SELECT length(vector) FROM vectors WHERE key = :key), 0) AS bytes) AS held
WHERE true
ON CONFLICT (key) DO UPDATE SET
    tenant = excluded.tenant, scope = excluded.scope, canonical = excluded.canonical, created = excluded.created,
    stale_until = excluded.stale_until, size = excluded.size, hits = hits + 1, worth = excluded.worth,
    priority = (SELECT floor FROM totals) + (hits + 1) * excluded.worth,
    bare = excluded.bare, packed = excluded.packed
"""

USED = """
UPDATE entries SET hits = hits + :hits, priority = (SELECT floor FROM totals) + (hits + :hits) * worth
WHERE key = :key
"""


class Totals(NamedTuple):
    """The row of that name. ``floor``: the priority of the last entry that had to go, from which new ones start."""

    entries: int = 0
    bytes: int = 0
    evictions: int = 0
    floor: float = 0.0


class DiskStore:
    """A :class:`~hasten.cache.store.base.Store` in a file. Errors of the file are :class:`StoreError`.

    ``max_bytes`` bounds the sizes of the entries, overhead included, and the file stays near it. Expired entries go
    first, then those of least priority (GreedyDual-Size-Frequency: uses times seconds saved, by size, and the
    priority of what went last, so that what is no longer used sinks).
    """

    name = "disk"

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        seal: Seal | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_bytes = max_bytes
        self._codec = Codec(seal)
        self._clock = clock
        self._epochs = Epochs()
        self._totals = Totals()
        self._used: dict[bytes, int] = {}
        self._reader, self._writer, self._searcher = (
            Lane(path, name) for name in ("read", "write", "search")
        )
        self._neighbours: Neighbours | None = None
        self._filling: dict[bytes, asyncio.Task[None]] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Open the file, or make it. Raises :class:`StoreError` if that cannot be."""
        await self._writer.open()
        self._totals = await self._writer.run(_totals)
        self._epochs.learn(await self._reader.run(self._news))

    # -- reads

    async def get(self, key: bytes) -> Entry | None:
        def work(connection: sqlite3.Connection) -> tuple[list[Entry], News]:
            rows = connection.execute("SELECT key, packed FROM entries WHERE key = ?", (key,)).fetchall()
            return self._decoded(rows), self._news(connection)

        return self._first(*await self._reader.run(work))

    async def find(self, canonical: bytes) -> Entry | None:
        def work(connection: sqlite3.Connection) -> tuple[list[Entry], News]:
            rows = connection.execute(
                "SELECT key, packed FROM entries WHERE canonical = ? ORDER BY created DESC LIMIT ?",
                (canonical, NEWEST),
            ).fetchall()
            return self._decoded(rows), self._news(connection)

        return self._first(*await self._reader.run(work))

    async def known(self, scope: bytes) -> bool:
        query = "SELECT EXISTS (SELECT 1 FROM entries WHERE scope = ?)"
        return bool(
            await self._reader.run(lambda connection: connection.execute(query, (scope,)).fetchone()[0])
        )

    async def near(self, scope: bytes, vector: Vector, limit: int) -> list[Near]:
        """Return the nearest; of a large scope that is asked for the first time, of what was read of it so far."""

        def work(connection: sqlite3.Connection) -> tuple[list[Near], News, bool]:
            neighbours = self._index()
            more = neighbours.take_in(connection, scope)
            found = neighbours.near(connection, scope, vector, limit, self._servable)
            return found, self._news(connection), more

        found, news, more = await self._searcher.run(work)
        self._epochs.learn(news)
        if more and scope not in self._filling:
            self._filling[scope] = asyncio.create_task(self._fill(scope), name="cache index")
        return [near for near in found if self._servable(near.entry)]

    async def bare(self, scope: bytes, limit: int) -> list[tuple[bytes, str]]:
        def work(connection: sqlite3.Connection) -> list[Entry]:
            query = "SELECT key, packed FROM entries WHERE scope = ? AND bare AND stale_until > ? LIMIT ?"
            return self._decoded(connection.execute(query, (scope, self._clock(), limit)).fetchall())

        return [(entry.key, entry.text or "") for entry in await self._searcher.run(work)]

    # -- writes

    async def put(self, entry: Entry, vector: Vector | None = None) -> None:
        packed = self._codec.encode(entry)
        blob = None if vector is None or entry.scope is None else self._blob(entry.key, vector)
        size = len(packed) + OVERHEAD
        row = {
            "key": entry.key,
            "tenant": _digest(entry.tenant),
            "scope": entry.scope,
            "canonical": entry.canonical,
            "created": entry.created,
            "stale_until": entry.stale_until,
            "size": size,
            "worth": max(entry.took, LEAST_COST) / (size / 1024),
            "bare": entry.scope is not None and entry.text is not None,
            "packed": packed,
        }

        def work(connection: sqlite3.Connection) -> None:
            if blob is not None:
                values = (entry.key, entry.scope, blob)
                connection.execute("REPLACE INTO vectors (key, scope, vector) VALUES (?, ?, ?)", values)
            connection.execute(PUT, row)

        if size <= self._max_bytes and entry.stale_until > self._clock():
            await self._write(work)

    async def embed(self, scope: bytes, key: bytes, vector: Vector) -> None:
        blob = self._blob(key, vector)

        def work(connection: sqlite3.Connection) -> None:
            update = "UPDATE entries SET bare = 0, size = size + ? WHERE key = ? AND bare"
            if connection.execute(update, (len(blob), key)).rowcount:
                connection.execute(
                    "REPLACE INTO vectors (key, scope, vector) VALUES (?, ?, ?)", (key, scope, blob)
                )

        await self._write(work)

    async def delete(self, key: bytes) -> None:
        await self._write(lambda connection: connection.execute("DELETE FROM entries WHERE key = ?", (key,)))

    async def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do ``work`` in a transaction, together with what else is to be noted and cleared away."""
        used, self._used = self._used, {}
        now = self._clock()

        def whole(connection: sqlite3.Connection) -> Totals:
            with transaction(connection):
                connection.executemany(USED, [{"key": key, "hits": hits} for key, hits in used.items()])
                work(connection)
                _delete_expired(connection, now, SWEEP)
                _make_room(connection, self._max_bytes)
                totals = _totals(connection)
            _shrink(connection)
            return totals

        self._totals = await self._writer.run(whole)

    # -- invalidation

    def epochs(self, tags: Sequence[str]) -> tuple[int, ...]:
        return self._epochs.of(tags)

    def allows(self, entry: Entry) -> bool:
        return self._epochs.allow(entry)

    async def invalidate(self, tags: Sequence[str]) -> None:
        begun = self._epochs.begin(tags, self._clock())  # here at once, whatever becomes of the file

        def work(connection: sqlite3.Connection) -> None:
            (top,) = connection.execute("SELECT coalesce(max(epoch), 0) FROM epochs").fetchone()
            rows = [(tag, max(begun, top + 1)) for tag in tags]
            connection.executemany("REPLACE INTO epochs VALUES (?, ?)", rows)
            _fold(connection)

        await self._write(work)

    async def purge(self, tenant: str) -> int:
        """Delete what is kept of ``tenant``, and overwrite its bytes in the file and its log."""
        count = await self._writer.run(lambda connection: _purge(connection, _digest(tenant)))
        self._totals = await self._writer.run(_totals)
        await self._searcher.run(lambda connection: self._index().forget_absent(connection))
        return count

    # -- life

    def stats(self) -> Stats:
        """Return what all processes held when this one wrote last."""
        return Stats(self._totals.entries, self._totals.bytes, self._totals.evictions)

    async def close(self) -> None:
        """Note what was used, and close the file."""
        for task in (*self._filling.values(), *self._noting):
            task.cancel()
        if self._used:
            await self._note()
        for lane in (self._searcher, self._reader, self._writer):
            await lane.close()

    # -- within

    def _news(self, connection: sqlite3.Connection) -> News:
        """Return the epochs not seen yet. Asked after an entry was read: so an invalidation before that is seen."""
        query = "SELECT tag, epoch FROM epochs WHERE epoch > ?"
        return connection.execute(query, (self._epochs.seen,)).fetchall()

    def _decoded(self, rows: list[tuple[bytes, bytes]]) -> list[Entry]:
        entries = (self._codec.decode(key, packed) for key, packed in rows)
        return [entry for entry in entries if entry is not None]

    def _servable(self, entry: Entry) -> bool:
        return self._clock() < entry.stale_until and self._epochs.allow(entry)

    def _first(self, entries: list[Entry], news: News) -> Entry | None:
        """Return the first entry that may be served, and note its use."""
        self._epochs.learn(news)
        for entry in entries:
            if self._servable(entry):
                self._used[entry.key] = self._used.get(entry.key, 0) + 1
                if len(self._used) >= HITS and not self._noting:
                    task = asyncio.create_task(self._note(), name="cache uses")
                    self._noting.add(task)
                    task.add_done_callback(self._noting.discard)
                return entry
        return None

    async def _note(self) -> None:
        with contextlib.suppress(StoreError):  # they order what is evicted, no more
            await self._write(lambda _: None)

    def _blob(self, key: bytes, vector: Vector) -> bytes:
        return self._codec.close(key, vector.astype("float16").tobytes())

    def _index(self) -> Neighbours:
        """Return the index; only the searcher's thread may use it. It needs numpy, an extra."""
        if self._neighbours is None:
            from hasten.cache.store.neighbours import Neighbours

            self._neighbours = Neighbours(self._codec)
        return self._neighbours

    async def _fill(self, scope: bytes) -> None:
        """Take in all of a scope, in slices between which searches are answered."""
        try:
            with contextlib.suppress(StoreError):
                while await self._searcher.run(lambda connection: self._index().take_in(connection, scope)):
                    pass
        finally:
            del self._filling[scope]


def _digest(tenant: str) -> bytes:
    """Return what stands for a tenant in the file, which does not name them."""
    return hashlib.sha256(tenant.encode()).digest()[:16]


def _totals(connection: sqlite3.Connection) -> Totals:
    return Totals(*connection.execute("SELECT entries, bytes, evictions, floor FROM totals").fetchone())


def _fold(connection: sqlite3.Connection) -> None:
    """Keep no more epochs than a process does, by the same rule."""
    (count,) = connection.execute("SELECT count(*) FROM epochs").fetchone()
    if count > KEPT:
        query = "SELECT epoch FROM epochs ORDER BY epoch LIMIT 1 OFFSET ?"
        (floor,) = connection.execute(query, (count - KEPT // 2,)).fetchone()
        connection.execute("DELETE FROM epochs WHERE epoch <= ?", (floor,))
        connection.execute("INSERT OR IGNORE INTO epochs VALUES (?, ?)", (ALL, floor))


def _delete_expired(connection: sqlite3.Connection, now: float, limit: int) -> None:
    query = "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries WHERE stale_until <= ? LIMIT ?)"
    connection.execute(query, (now, limit))


def _make_room(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Delete what has least priority, if the entries take more than ``max_bytes``."""
    totals = _totals(connection)
    excess = totals.bytes - max_bytes
    if excess <= 0:
        return
    excess += int(max_bytes * (1 - ROOM))
    query = "SELECT rowid, size, priority FROM entries ORDER BY priority LIMIT ?"
    floor, going = totals.floor, 0
    while excess > 0 and (rows := connection.execute(query, (BATCH,)).fetchall()):
        for row, size, priority in rows:
            connection.execute("DELETE FROM entries WHERE rowid = ?", (row,))
            excess, floor, going = excess - size, max(floor, priority), going + 1
            if excess <= 0:
                break
    connection.execute("UPDATE totals SET evictions = evictions + ?, floor = ?", (going, floor))


def _shrink(connection: sqlite3.Connection) -> None:
    """Give free pages back to the disk, if there are many."""
    pages, free = (connection.execute(f"PRAGMA {what}_count").fetchone()[0] for what in ("page", "freelist"))
    excess = free - SPARE - pages // 8
    if excess > 0:
        _vacuum(connection, excess)


def _vacuum(connection: sqlite3.Connection, pages: int = 0) -> None:
    """Give so many free pages back, all if 0. A page a step, and the module's ``execute`` takes one step only."""
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")


def _purge(connection: sqlite3.Connection, tenant: bytes) -> int:
    query = "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries WHERE tenant = ? LIMIT ?)"
    count = 0
    connection.execute("PRAGMA secure_delete = ON")
    try:
        while True:
            with transaction(connection):
                deleted = connection.execute(query, (tenant, CHUNK)).rowcount
            count += deleted
            if deleted < CHUNK:
                break
    finally:
        connection.execute("PRAGMA secure_delete = FAST")
    # Pages that became free earlier may hold what was replaced or evicted; the log what was written lately.
    _vacuum(connection)
    until = time.monotonic() + BUSY
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > until:
            raise trouble(
                "the entries are deleted, but other processes kept their bytes from being overwritten"
            )
    return count
