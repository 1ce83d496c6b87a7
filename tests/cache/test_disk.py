"""The disk store's own: bounds, crashes, other processes, damage."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from hasten.cache.store import database, neighbours
from hasten.cache.store.disk import DiskStore
from hasten.cache.store.seal import Seal
from hasten.errors import StoreError
from tests.cache.stores import SECRET, START, Clock, asked, digest, entry, vector

SCOPE = digest("scope")
MB = 1024 * 1024


@asynccontextmanager
async def opened(
    path: Path, max_bytes: int = 64 * MB, seal: Seal | None = None, clock: Callable[[], float] | None = None
) -> AsyncIterator[DiskStore]:
    store = DiskStore(path, max_bytes, seal, clock or Clock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache.db"


def contents(path: Path) -> bytes:
    """Return all bytes of the file and its log."""
    return b"".join(
        Path(f"{path}{end}").read_bytes() for end in ("", "-wal") if Path(f"{path}{end}").exists()
    )


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# -- bounds


async def test_it_stays_within_its_bounds(path: Path) -> None:
    async with opened(path, 2 * MB) as store:
        for i in range(600):
            await store.put(asked(str(i), body=os.urandom(10_000)), vector((i % 32, 1)))
            held = store.stats()
            assert held.bytes is not None
            assert held.bytes <= 2 * MB
        assert held.entries is not None
        assert 150 < held.entries < 210
        assert held.evictions == 600 - held.entries
        assert await store.get(digest("599")) is not None
    assert path.stat().st_size < 3.5 * MB
    assert sound(path)


async def test_what_is_used_or_costly_stays(path: Path) -> None:
    async with opened(path, 1 * MB) as store:
        await store.put(entry("costly", took=30.0, body=bytes(10_000)))
        await store.put(entry("used", body=bytes(10_000)))
        for _ in range(30):
            await store.get(digest("used"))
        for i in range(300):
            await store.put(entry(str(i), body=bytes(10_000)))
        assert await store.get(digest("costly")) is not None
        assert await store.get(digest("used")) is not None
        assert await store.get(digest("0")) is None
        # What is no longer used sinks, however much it was.
        for i in range(1000):
            await store.put(entry(f"more {i}", body=bytes(10_000), took=10.0))
        assert await store.get(digest("costly")) is None
        assert await store.get(digest("used")) is None


async def test_expired_entries_go_first(path: Path) -> None:
    clock = Clock()
    async with opened(path, 1 * MB, clock=clock) as store:
        for i in range(50):
            await store.put(entry(f"short {i}", body=bytes(10_000), took=60.0))
        clock.now = START + 130
        for i in range(60):
            await store.put(entry(str(i), body=bytes(10_000), stale_until=clock.now + 60))
        assert store.stats().entries == 60
        assert store.stats().evictions == 0


async def test_too_large_an_entry_is_not_kept(path: Path) -> None:
    async with opened(path, 1 * MB) as store:
        await store.put(entry("small"))
        await store.put(entry("large", body=bytes(2 * MB)))
        assert await store.get(digest("large")) is None
        assert await store.get(digest("small")) is not None


async def test_uses_are_noted_without_a_put(path: Path) -> None:
    async with opened(path) as store:
        for i in range(300):
            await store.put(entry(str(i)))
        for i in range(300):
            await store.get(digest(str(i)))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT min(hits), max(hits) FROM entries").fetchone() == (2, 2)


# -- what is left in the file


async def test_a_purge_removes_the_bytes(path: Path) -> None:
    async with opened(path) as store, opened(path) as another:
        for i in range(30):
            await store.put(asked(f"{i}", text=f"SECRET {i}", body=b"SECRET" * 1000), vector((0, 1)))
        await store.put(
            asked("0", text="SECRET", body=b"SECRET again")
        )  # replaced: the former lies in free pages
        await store.put(entry("other", tenant="other", body=b"PUBLIC"))
        assert await another.get(digest("0")) is not None
        assert b"SECRET" in contents(path)
        assert await store.purge("acme") == 30
        assert b"SECRET" not in contents(path)
        assert await store.get(digest("other")) is not None
        assert store.stats().entries == 1
    assert b"PUBLIC" in contents(path)


async def test_nothing_readable_is_in_a_sealed_file(path: Path) -> None:
    made = asked("one", tenant="SECRET", text="SECRET", body=b"SECRET" * 100, model="SECRET")
    plain_vector = vector((0, 1), (1, 0.5))
    async with opened(path, seal=Seal(SECRET)) as store:
        await store.put(made, plain_vector)
        await store.put(asked("bare", text="SECRET"))
        assert await store.get(made.key) == made
    assert b"SECRET" not in contents(path)
    assert plain_vector.astype("float16").tobytes()[:4] not in contents(path)


async def test_with_another_key_entries_are_not_there(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(path, seal=Seal(SECRET)) as store:
        await store.put(asked("one"), vector((0, 1)))
        await store.put(asked("bare"))
    for seal in (Seal(bytes(32)), None):
        async with opened(path, seal=seal) as store:
            with caplog.at_level(logging.WARNING, "hasten.cache"):
                assert await store.get(digest("one")) is None
            assert "passed over" in caplog.text
            assert await store.near(SCOPE, vector((0, 1)), 1) == []
            assert await store.bare(SCOPE, 1) == []


async def test_only_its_owner_may_read_it(path: Path) -> None:
    async with opened(path) as store:
        await store.put(entry("one"))
        for each in path.parent.iterdir():
            assert each.stat().st_mode & 0o077 == 0, each.name


# -- other processes

WRITER = """
import asyncio, sys
from pathlib import Path
from hasten.cache.store.disk import DiskStore
from tests.cache.stores import Clock, asked, vector

async def main():
    store = DiskStore(Path(sys.argv[1]), 64 << 20, None, Clock())
    await store.open()
    for i in range(10**9):
        await store.put(asked(f"{sys.argv[2]} {i}", tags=("a",), epochs=store.epochs(["a"])), vector((0, 1)))
        print(i, flush=True)
        if sys.argv[3:] == [str(i)]:
            await store.invalidate(["a"])
            await store.close()
            return

asyncio.run(main())
"""


def writer(path: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), *args],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


async def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    acknowledged = -1
    with writer(path, "x") as process:
        assert process.stdout is not None
        while acknowledged < 100:
            acknowledged = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
    async with opened(path) as store:
        for i in range(acknowledged + 1):
            assert await store.get(digest(f"x {i}")) is not None
        assert await store.get(digest(f"x {acknowledged + 2}")) is None
        entries = store.stats().entries
        assert entries in (acknowledged + 1, acknowledged + 2)
        assert len(await store.near(SCOPE, vector((0, 1)), 5)) == 5
    assert sound(path)


async def test_two_processes_share_it(path: Path) -> None:
    async with opened(path) as store:
        with writer(path, "x", "200") as process:
            for i in range(200):  # both write at the same time
                await store.put(entry(f"mine {i}"))
            assert process.stdout is not None
            while (line := await asyncio.to_thread(process.stdout.readline)) != "50\n":
                assert line
            assert await store.get(digest("x 50")) is not None
            await asyncio.to_thread(process.stdout.read)
        assert await store.get(digest("x 50")) is None  # invalidated by the other process
        assert await store.get(digest("mine 199")) is not None
        await store.put(entry("last"))
        assert store.stats().entries == 402


async def test_a_file_that_was_replaced_is_opened_anew(path: Path) -> None:
    async with opened(path) as store:
        await store.put(asked("one"), vector((0, 1)))
        assert len(await store.near(SCOPE, vector((0, 1)), 1)) == 1
        for end in ("", "-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        assert await store.get(digest("one")) is None
        assert await store.near(SCOPE, vector((0, 1)), 1) == []
        await store.put(asked("two"), vector((0, 1)))
        assert len(await store.near(SCOPE, vector((0, 1)), 1)) == 1


# -- trouble


@pytest.mark.parametrize("damage", [b"no database at all" * 1000, b""])
async def test_a_corrupt_file_is_moved_aside(
    path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as store:
        for i in range(50):
            await store.put(entry(str(i), body=bytes(3000)))
    if damage:
        path.write_bytes(damage)
    else:  # the header is well, the tables are not
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(os.urandom(60_000))
    with caplog.at_level(logging.WARNING, "hasten.cache"):
        async with opened(path) as store:
            assert await store.get(digest("1")) is None
            await store.put(entry("1"))
            assert await store.get(digest("1")) is not None
    assert "corrupt" in caplog.text
    assert len([each for each in path.parent.iterdir() if ".corrupt-" in each.name]) == 1
    assert sound(path)


async def test_damage_while_it_runs(path: Path) -> None:
    async with opened(path) as store, opened(path) as another:
        for i in range(200):
            await store.put(entry(str(i), body=bytes(3000)))
        await store._writer.run(
            lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        )
        subprocess.run(
            ["dd", "if=/dev/urandom", f"of={path}", "conv=notrunc", "bs=4096", "seek=1", "count=150"],
            check=True,
        )
        with pytest.raises(StoreError, match="corrupt"):
            await asyncio.gather(*(store.get(digest(str(i))) for i in range(200)))
        for each in (store, another):  # the next call finds a new file
            assert await each.get(digest("1")) is None
        await store.put(entry("new"))
        assert await another.get(digest("new")) is not None


async def test_a_locked_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY", 0.05)
    async with opened(path) as store:
        await store.put(entry("one"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked by another process"):
                await store.put(entry("two"))
            assert await store.get(digest("one")) is not None
            other.execute("ROLLBACK")
        await store.put(entry("two"))


async def test_a_full_disk(path: Path) -> None:
    async with opened(path) as store:
        await store.put(entry("one"))
        await store._writer.run(
            lambda connection: connection.execute("PRAGMA max_page_count = 40").fetchall()
        )
        with pytest.raises(StoreError, match="full"):
            await store.put(entry("two", body=bytes(MB)))
        assert await store.get(digest("one")) is not None
        await store.put(entry("three"))
        assert store.stats().entries == 2


async def test_another_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (x)")
    before = path.read_bytes()
    store = DiskStore(path, MB)
    with pytest.raises(StoreError, match="not a cache"):
        await store.open()
    await store.close()
    assert path.read_bytes() == before


async def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = DiskStore(tmp_path / "file" / "cache.db", MB)
    with pytest.raises(StoreError, match=r"cache\.db: "):
        await store.open()
    await store.close()


async def test_a_closed_store(path: Path) -> None:
    async with opened(path) as store:
        pass
    with pytest.raises(StoreError, match="closed"):
        await store.get(b"")


# -- the index


async def test_a_large_scope_is_read_in_the_background(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "SLICE", 0.0)
    async with opened(path) as store:
        for i in range(200):
            await store.put(asked(str(i)), vector((0, 1), (1, 0.01 * i)))
    async with opened(path) as store:
        assert len(await store.near(SCOPE, vector((0, 1)), 200)) == neighbours.BATCH
        await asyncio.gather(*store._filling.values())
        assert len(await store.near(SCOPE, vector((0, 1)), 200)) == 200


async def test_vectors_of_deleted_entries_do_not_pile_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "AUDIT", 20)
    async with opened(path) as store, opened(path) as another:
        for i in range(30):
            await store.put(asked(str(i)), vector((i, 1)))
            await another.near(SCOPE, vector((31, 1)), 1)
            await store.delete(digest(str(i)))
        assert another._neighbours is not None
        assert len(another._neighbours._scopes[SCOPE].keys) < 20
