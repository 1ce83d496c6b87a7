"""The disk store's SQLite file: its tables, its opening, its repair, and its errors as ours."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hasten.cache.store.trouble import trouble
from hasten.errors import StoreError

log = logging.getLogger("hasten.cache")

T = TypeVar("T")

APPLICATION = 0x48415354  # marks the file as ours: "HAST"
VERSION = 1  # of the tables
BUSY = 1.5  # seconds to wait for another process that writes
CHECKED = (
    64 * 1024 * 1024
)  # bytes; a larger file is not searched for damage at opening, as that takes too long
LOG_KEPT = 4 * 1024 * 1024  # bytes of the write-ahead log's file, after what is in it was moved

TABLES = """
CREATE TABLE entries (
    key BLOB PRIMARY KEY, tenant BLOB NOT NULL, scope BLOB, canonical BLOB, created REAL NOT NULL,
    stale_until REAL NOT NULL, size INTEGER NOT NULL, hits INTEGER NOT NULL, worth REAL NOT NULL,
    priority REAL NOT NULL, bare INTEGER NOT NULL, packed BLOB NOT NULL);
CREATE INDEX entries_priority ON entries (priority);
CREATE INDEX entries_end ON entries (stale_until);
CREATE INDEX entries_tenant ON entries (tenant);
CREATE INDEX entries_canonical ON entries (canonical, created) WHERE canonical IS NOT NULL;
CREATE INDEX entries_scope ON entries (scope) WHERE scope IS NOT NULL;
CREATE INDEX entries_bare ON entries (scope) WHERE bare;
CREATE TABLE vectors (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, scope BLOB NOT NULL, vector BLOB NOT NULL);
CREATE INDEX vectors_scope ON vectors (scope, seq);
CREATE TABLE epochs (tag TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX epochs_epoch ON epochs (epoch);
CREATE TABLE totals (entries INTEGER, bytes INTEGER, evictions INTEGER, floor REAL);
INSERT INTO totals VALUES (0, 0, 0, 0);
CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
    UPDATE totals SET entries = entries + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER entry_resized AFTER UPDATE OF size ON entries BEGIN
    UPDATE totals SET bytes = bytes + new.size - old.size;
END;
CREATE TRIGGER entry_removed AFTER DELETE ON entries BEGIN
    UPDATE totals SET entries = entries - 1, bytes = bytes - old.size;
    DELETE FROM vectors WHERE key = old.key;
END;
"""


class Database:
    """One connection, used by one thread. Follows the path: replaced by another file, that one is opened.

    A file that SQLite cannot read is moved aside as ``<name>.corrupt-<time>``, and a new one begun.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``work`` does with the connection. Raises :class:`StoreError` and nothing else."""
        try:
            return work(self._connected())
        except sqlite3.Error as exc:
            raise self._translated(exc) from exc
        except OSError as exc:
            raise trouble(f"the cache's file {self.path}: {exc.strerror}") from exc

    def open(self) -> None:
        """Open the file and look for damage, unless it is large."""
        try:
            self.run(_check)
        except StoreError:
            self.run(_check)  # moved aside, it is a new one now; what else was wrong still is

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> sqlite3.Connection:
        with contextlib.suppress(FileNotFoundError):
            if self._connection is not None and self.path.stat().st_ino == self._inode:
                return self._connection
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _opening(self.path):
            try:
                self._connection = _connect(self.path)
            except sqlite3.DatabaseError as exc:
                if not _is_damage(exc):
                    raise
                self._move_aside()
                self._connection = _connect(self.path)
            self._inode = self.path.stat().st_ino
        return self._connection

    def _translated(self, exc: sqlite3.Error) -> StoreError:
        """Return our error for one of SQLite's; a damaged file is moved aside."""
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        if _is_damage(exc):
            with contextlib.suppress(OSError), _opening(self.path):
                if self.path.stat().st_ino == self._inode:  # else another process has moved it
                    self._move_aside()
            return trouble(f"the cache's file {self.path} is corrupt")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return trouble(f"the cache's file {self.path} is locked by another process")
        if code == sqlite3.SQLITE_FULL:
            return trouble(f"the disk of the cache's file {self.path} is full")
        return trouble(f"the cache's file {self.path}: {exc}")

    def _move_aside(self) -> None:
        self.close()
        aside = self.path.with_name(f"{self.path.name}.corrupt-{int(time.time())}")
        # The log first: SQLite would play it into the new file.
        for end in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{end}", f"{aside}{end}")
        log.warning("the cache's file %s is corrupt: moved to %s, a new one is begun", self.path, aside.name)


class Lane:
    """A thread with a connection of its own, which carries out one piece of work after the other."""

    def __init__(self, path: Path, name: str) -> None:
        self._database = Database(path)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"hasten-cache-{name}")

    async def open(self) -> None:
        """Open the database. Raises :class:`StoreError` if it cannot be."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._database.open)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``work`` returns, done in the thread. Raises :class:`StoreError`."""
        return await self.begin(work)

    def begin(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Hand ``work`` to the thread now, and return where its result will be."""
        try:
            return asyncio.get_running_loop().run_in_executor(self._pool, self._database.run, work)
        except RuntimeError as exc:  # the thread has ended
            raise trouble("the cache's file is closed") from exc

    async def close(self) -> None:
        """Close the connection after the work that waits, and end the thread."""
        with contextlib.suppress(RuntimeError):
            await asyncio.get_running_loop().run_in_executor(self._pool, self._database.close)
        self._pool.shutdown(wait=False)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all or nothing; other processes that write wait meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Let one process at a time open the file: it may have to make it."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        until = time.monotonic() + BUSY
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.005)
        yield
    finally:
        os.close(lock)


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the file, made ready for it and it for us."""
    with contextlib.suppress(FileExistsError):  # for its owner only: it has what people asked
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # holds for a file without tables only
        ours, version, tables = (
            connection.execute(f"PRAGMA {what}").fetchone()[0]
            for what in ("application_id", "user_version", "schema_version")
        )
        if tables and (ours != APPLICATION or version != VERSION):
            raise trouble(f"{path} is not a cache of this version of Hasten: name another file, or delete it")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_KEPT}")
        if not tables:
            head = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
            connection.executescript(f"BEGIN; {head} {TABLES} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    """Read all of a small file. Raises :class:`sqlite3.DatabaseError` if it is damaged."""
    pages, size = (connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
    if pages * size <= CHECKED:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            error = sqlite3.DatabaseError(found)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error


def _is_damage(exc: sqlite3.Error) -> bool:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
