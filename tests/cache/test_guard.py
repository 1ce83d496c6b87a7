"""A store that is slow, broken or gone never holds up a request."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hasten.cache.entry import Entry
from hasten.cache.store import guard as guards
from hasten.cache.store.base import Near, Stats, Store
from hasten.cache.store.guard import Guard
from hasten.cache.store.trouble import NO_VECTOR_SETS, trouble
from hasten.errors import StoreError
from tests.cache.stores import digest, entry, vector

LIMIT = 0.01
SLACK = 0.5  # for a busy machine; one after the other the calls below would take twice as long


class FakeStore:
    """Does what ``mode`` says: ``well``, ``hangs``, ``fails`` or ``searchless``."""

    name = "fake"

    def __init__(self) -> None:
        self.mode = "well"
        self.calls = Counter[str]()
        self.kept: dict[bytes, Entry] = {}
        self.local: list[str] = []

    async def _do(self, what: str) -> None:
        self.calls[what] += 1
        if self.mode == "hangs":
            await asyncio.Event().wait()
        if self.mode == "fails":
            raise trouble("it is broken")
        if self.mode == "searchless":
            raise trouble("no search", NO_VECTOR_SETS)

    async def open(self) -> None: ...

    async def get(self, key: bytes) -> Entry | None:
        await self._do("get")
        return self.kept.get(key)

    async def put(self, entry: Entry, vector: Any = None) -> None:
        await self._do("put")
        self.kept[entry.key] = entry

    async def delete(self, key: bytes) -> None:
        await self._do("delete")
        self.kept.pop(key, None)

    def epochs(self, tags: Sequence[str]) -> tuple[int, ...]:
        return tuple(self.local.count(tag) for tag in tags)

    def allows(self, entry: Entry) -> bool:
        return self.epochs(entry.tags) == entry.epochs

    async def invalidate(self, tags: Sequence[str]) -> None:
        self.local += tags
        await self._do("invalidate")

    async def purge(self, tenant: str) -> int:
        await self._do("purge")
        return len(self.kept)

    async def find(self, canonical: bytes) -> Entry | None:
        await self._do("find")
        return None

    async def known(self, scope: bytes) -> bool:
        await self._do("known")
        return True

    async def near(self, scope: bytes, vector: Any, limit: int) -> list[Near]:
        await self._do("near")
        return []

    async def bare(self, scope: bytes, limit: int) -> list[tuple[bytes, str]]:
        await self._do("bare")
        return [(b"", "")]

    async def embed(self, scope: bytes, key: bytes, vector: Any) -> None:
        await self._do("embed")

    def stats(self) -> Stats:
        return Stats(len(self.kept), 0)

    async def close(self) -> None:
        self.calls["close"] += 1


class Ticks:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def guarded(store: Store, clock: Ticks | None = None) -> AsyncIterator[tuple[Guard, Counter[str]]]:
    troubles = Counter[str]()

    def note(code: str) -> None:
        troubles[code] += 1

    guard = Guard(store, LIMIT, note, clock or time.monotonic)
    await guard.open()
    try:
        yield guard, troubles
    finally:
        await guard.close()


async def settled(guard: Guard) -> None:
    """Wait until all writes are done."""
    async with asyncio.timeout(1):
        while guard._queue or guard._writing.locked():
            await asyncio.sleep(0)


async def test_a_store_that_is_well() -> None:
    store = FakeStore()
    async with guarded(store) as (guard, troubles):
        assert guard.name == "fake"
        await guard.put(entry("one"))
        await guard.put(entry("two"))
        await guard.delete(digest("two"))
        await guard.embed(b"", b"", vector((0, 1)))
        await settled(guard)
        assert await guard.get(digest("one")) == entry("one")
        assert await guard.get(digest("two")) is None
        assert await guard.known(b"")
        assert await guard.bare(b"", 1) == [(b"", "")]
        assert await guard.purge("acme") == 1
        await guard.invalidate(["a"])
        assert guard.epochs(["a"]) == (1,)
        assert guard.allows(entry("old", tags=("a",), epochs=(1,)))
        assert not guard.allows(entry("old", tags=("a",), epochs=(0,)))
        assert guard.stats().entries == 1
    assert not troubles
    assert store.calls["close"] == 1


@pytest.mark.parametrize("mode", ["hangs", "fails"])
async def test_every_read_is_a_miss_in_trouble(mode: str) -> None:
    calls: list[tuple[str, tuple[Any, ...], object]] = [
        ("get", (b"",), None),
        ("find", (b"",), None),
        ("known", (b"",), False),
        ("near", (b"", vector((0, 1)), 1), []),
        ("bare", (b"", 1), []),
    ]
    for name, args, miss in calls:
        store = FakeStore()
        store.mode = mode
        async with guarded(store, Ticks()) as (guard, troubles):
            for _ in range(3):
                assert await getattr(guard, name)(*args) == miss
        made = 2 if mode == "hangs" else 1  # one that takes too long is forgiven; then no more are made
        assert store.calls[name] == made
        assert troubles == {
            "store_timeout" if mode == "hangs" else "store_error": made,
            "store_open": 3 - made,
        }


async def test_a_call_takes_no_longer_than_its_limit() -> None:
    store = FakeStore()
    store.mode = "hangs"
    async with guarded(store) as (guard, _):
        began = time.perf_counter()
        await asyncio.gather(*(guard.get(b"") for _ in range(100)))
        assert LIMIT * 0.9 < time.perf_counter() - began < LIMIT + SLACK
        began = time.perf_counter()
        for _ in range(100):
            await guard.get(b"")
        assert time.perf_counter() - began < SLACK


async def test_one_call_at_a_time_tries_again_ever_more_rarely() -> None:
    store, clock = FakeStore(), Ticks()
    store.mode = "fails"
    async with guarded(store, clock) as (guard, _):
        await asyncio.gather(
            *(guard.get(b"") for _ in range(5))
        )  # however many fail at once, it is one failure
        wait = guards.FIRST
        for _ in range(10):
            store.calls.clear()
            clock.now += wait * 0.99
            await guard.get(b"")
            assert store.calls["get"] == 0
            clock.now += wait * 0.02
            await asyncio.gather(*(guard.get(b"") for _ in range(5)))
            assert store.calls["get"] == 1
            wait = min(wait * 2, guards.LONGEST)
        assert wait == guards.LONGEST
        store.mode = "well"
        clock.now += wait
        for _ in range(2):
            await guard.get(b"")
        assert store.calls["get"] == 3


async def test_while_one_tries_the_others_are_turned_away() -> None:
    store, clock = FakeStore(), Ticks()
    store.mode = "hangs"
    async with guarded(store, clock) as (guard, troubles):
        for _ in range(2):
            await guard.get(b"")
        clock.now += guards.FIRST
        await asyncio.gather(*(guard.get(b"") for _ in range(5)))
        assert store.calls["get"] == 3
        assert troubles == {"store_timeout": 3, "store_open": 4}
        # Its caller may leave: then the next one tries.
        clock.now += 2 * guards.FIRST
        leaving = asyncio.create_task(guard.get(b""))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        await guard.get(b"")
        assert store.calls["get"] == 5


async def test_a_late_answer_among_others_in_time_does_not_open_the_gate() -> None:
    class Uneven(FakeStore):
        async def get(self, key: bytes) -> Entry | None:
            await asyncio.sleep(1.0 if key == b"slow" else 0.002)
            return entry("one")

    async with guarded(Uneven()) as (guard, troubles):
        slow = asyncio.create_task(guard.get(b"slow"))
        await asyncio.sleep(0)
        assert await guard.get(b"quick") is not None
        assert await slow is None
        assert await guard.get(b"quick") is not None
        assert troubles == {"store_timeout": 1}


async def test_one_late_answer_is_forgiven() -> None:
    store = FakeStore()
    async with guarded(store, Ticks()) as (guard, troubles):
        for _ in range(3):
            store.mode = "hangs"
            assert not await guard.known(b"")
            store.mode = "well"
            assert await guard.known(b"")
        assert troubles == {"store_timeout": 3}


async def test_writes_wait_in_a_queue_with_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "QUEUED", 3)
    monkeypatch.setattr(guards, "FLUSH_LIMIT", 0.01)
    store = FakeStore()
    store.mode = "hangs"
    async with guarded(store) as (guard, troubles):
        for i in range(6):
            await guard.put(entry(str(i)))  # returns at once, whatever the store does
            await asyncio.sleep(0)
        assert troubles == {"store_busy": 2}  # one is being written, three wait
    monkeypatch.setattr(guards, "QUEUED", 1000)
    monkeypatch.setattr(guards, "QUEUED_BYTES", 1000)
    async with guarded(store) as (guard, troubles):
        for i in range(3):
            await guard.put(entry(str(i), body=bytes(600)))
        assert troubles == {"store_busy": 2}


async def test_failing_writes_do_not_close_what_can_be_read() -> None:
    store, clock = FakeStore(), Ticks()
    async with guarded(store, clock) as (guard, troubles):
        await guard.put(entry("one"))
        await settled(guard)
        store.mode = "fails"
        await guard.put(entry("two"))
        await settled(guard)
        store.mode = "well"
        await guard.put(entry("three"))
        await settled(guard)
        assert await guard.get(digest("one")) is not None
        assert await guard.get(digest("three")) is None
        assert troubles == {"store_error": 1, "store_open": 1}
        clock.now += guards.FIRST
        await guard.put(entry("three"))
        await settled(guard)
        assert await guard.get(digest("three")) is not None


async def test_nothing_is_queued_while_the_store_is_away() -> None:
    store = FakeStore()
    store.mode = "fails"
    async with guarded(store, Ticks()) as (guard, troubles):
        await guard.get(b"")
        await guard.put(entry("one"))
        assert troubles == {"store_error": 1, "store_open": 1}
        assert not guard._queue


async def test_a_store_without_search_stays_in_use() -> None:
    store = FakeStore()
    async with guarded(store, Ticks()) as (guard, troubles):
        store.mode = "searchless"
        assert await guard.near(b"", vector((0, 1)), 1) == []
        store.mode = "well"
        await guard.get(b"")
        assert store.calls["get"] == 1
        assert troubles == {NO_VECTOR_SETS: 1}


@pytest.mark.parametrize("mode", ["hangs", "fails"])
async def test_who_invalidates_learns_that_it_failed(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "ADMIN_LIMIT", 0.01)
    monkeypatch.setattr(guards, "PURGE_LIMIT", 0.01)
    store = FakeStore()
    store.mode = mode
    async with guarded(store) as (guard, _):
        with pytest.raises(StoreError):
            await guard.invalidate(["a"])
        assert guard.epochs(["a"]) == (1,)  # here it holds
        with pytest.raises(StoreError):
            await guard.purge("acme")


async def test_a_purge_forgets_what_waits_to_be_written() -> None:
    store = FakeStore()
    async with guarded(store) as (guard, _):
        await guard.put(entry("one"))
        await guard.put(entry("two", tenant="other"))
        await guard.purge("acme")
        await settled(guard)
        assert list(store.kept) == [digest("two")]


async def test_what_waits_is_written_at_the_end() -> None:
    store = FakeStore()
    async with guarded(store) as (guard, _):
        for i in range(100):
            await guard.put(entry(str(i)))
    assert len(store.kept) == 100
