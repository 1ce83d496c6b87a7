"""The memory store: its bound, what it evicts, and a model of all of it."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hasten.cache.entry import Entry
from hasten.cache.store.eviction import Camp, Slot
from hasten.cache.store.memory import ENTRY_BYTES, MemoryStore
from hasten.testing import FakeClock
from tests.cache.stores import asked, digest, vector

MB = 1024 * 1024
SCOPES = [digest("scope a"), digest("scope b")]
TENANTS = ["acme", "other"]
TAGS = ["x", "y"]


def entry(name: str, size: int = 1000, took: float = 1.0, **changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "key": digest(name),
        "tenant": "acme",
        "model": "m",
        "engine": "e",
        "provider": "p",
        "streamed": False,
        "body": bytes(size),
        "content_type": b"application/json",
        "created": 1000.0,
        "expires": 2000.0,
        "stale_until": 2000.0,
        "took": took,
    }
    return Entry(**(fields | changes))


def room_for(count: int, one: int) -> int:
    """Return a limit under which about ``count`` entries of ``one`` bytes fit."""
    return count * (ENTRY_BYTES + one * 7 // 6 + 100)


async def kept(store: MemoryStore, names: list[str]) -> list[str]:
    return [name for name in names if digest(name) in store._slots]


# -- what goes


async def test_what_is_used_stays() -> None:
    store = MemoryStore(room_for(20, 1000), FakeClock())
    await store.put(entry("used"))
    for number in range(200):
        assert await store.get(digest("used")) is not None
        await store.put(entry(str(number)))
    assert 15 <= (store.stats().entries or 0) <= 21
    assert store.stats().evictions > 150


async def test_what_was_dear_stays_longer_than_what_was_cheap() -> None:
    store = MemoryStore(room_for(20, 1000), FakeClock())
    for number in range(20):
        await store.put(entry(str(number), took=20.0 if number % 2 else 0.0))
    for number in range(20, 29):
        await store.put(entry(str(number), took=0.0))
    assert await kept(store, [str(number) for number in range(1, 20, 2)]) == [str(n) for n in range(1, 20, 2)]


async def test_what_is_large_goes_before_what_is_small() -> None:
    store = MemoryStore(room_for(30, 2000), FakeClock())
    for number in range(20):
        await store.put(entry(f"small {number}", size=200))
        await store.put(entry(f"large {number}", size=4000))
    names = [f"small {number}" for number in range(20)]
    assert await kept(store, names) == names


async def test_what_is_used_no_more_goes_in_the_end() -> None:
    store = MemoryStore(room_for(20, 1000), FakeClock())
    await store.put(entry("once popular"))
    for _ in range(10):
        await store.get(digest("once popular"))
    for number in range(500):
        await store.put(entry(str(number)))
    assert await kept(store, ["once popular"]) == []


async def test_what_is_over_goes_first() -> None:
    clock = FakeClock()
    store = MemoryStore(room_for(20, 1000), clock)
    for number in range(8):
        await store.put(entry(f"over {number}", took=50.0, stale_until=1010.0))
    clock.advance(20)
    for number in range(30):
        await store.put(entry(str(number)))
    assert await kept(store, [f"over {number}" for number in range(8)]) == []


async def test_an_entry_over_an_eighth_is_refused() -> None:
    store = MemoryStore(MB, FakeClock())
    await store.put(entry("one"))
    await store.put(entry("one", size=MB // 8))
    assert store.refused == 1
    assert await store.get(digest("one")) is None  # nor is the answer kept that it would have replaced
    assert store.nbytes < MB // 100


def test_ranks() -> None:
    """The rounded formula, and the clock that goes on with what goes."""
    policy = Camp()

    def slot(name: str, cost: float) -> Slot:
        made = Slot(key=name.encode(), data=b"-", tenant="", scope=b"", canonical=b"", stale_until=0.0)
        policy.add(made, cost, 1000)
        return made

    cheap, dear, cheap_but_used = slot("cheap", 0.5), slot("dear", 20.0), slot("cheap but used", 0.5)
    for _ in range(4):
        policy.hit(cheap_but_used)
    assert policy.take() is cheap
    late = slot("late", 0.5)
    assert late.rank > cheap.rank
    assert policy.take() is late
    later = slot("later", 20.0)
    assert [policy.take() for _ in range(4)] == [cheap_but_used, dear, later, None]
    gone = slot("gone", 1.0)
    policy.remove(gone)
    assert policy.take() is None
    assert policy.nbytes == 0


# -- how much


async def test_never_above_its_limit() -> None:
    store = MemoryStore(4 * MB)
    sizes = [200, 500, 900, 3000, 20_000, 200_000]
    since = time.process_time()
    for number in range(100_000):
        size = sizes[min(number % 11, number % 7, 5)]
        await store.put(entry(str(number), size=size, stale_until=1e12))
        assert store.nbytes <= 4 * MB
    assert store.nbytes > 3.5 * MB
    assert time.process_time() - since < 20


async def test_deleting_and_replacing_leaves_nothing_behind() -> None:
    store = MemoryStore(16 * MB, FakeClock())
    for number in range(2000):
        await store.put(asked(str(number % 10), stale_until=1e12), vector((number % 30, 1)))
        assert store.nbytes < 60_000
    for number in range(10):
        await store.delete(digest(str(number)))
    assert store.stats() == (0, store._policy.nbytes, 0)
    assert store.nbytes < 20_000


async def test_purge_of_100_000() -> None:
    store = MemoryStore(256 * MB)
    for number in range(50_000):
        await store.put(asked(f"a {number}", tenant="acme", stale_until=1e12, text="?"))
        await store.put(entry(f"b {number}", size=10, tenant="other", stale_until=1e12))
    gc.collect()
    since = time.process_time()
    assert await store.purge("acme") == 50_000
    assert time.process_time() - since < 1  # 0.1 s on a quiet machine
    assert store.stats().entries == 50_000
    assert not await store.known(digest("scope"))


async def test_purge_drops_a_large_scope_at_once() -> None:
    store = MemoryStore(64 * MB)
    for number in range(1000):
        near = vector((number % 32, 1), ((number * 7) % 31, 0.3))
        await store.put(asked(str(number), stale_until=1e12), near)
    await store.put(entry("other", tenant="other", stale_until=1e12))
    assert await store.purge("acme") == 1000
    assert not await store.known(digest("scope"))
    assert await store.purge("other") == 1
    assert store.nbytes == 0


# -- everything, against a model


class Model(RuleBasedStateMachine):
    """The store, a dictionary that never forgets, and a clock. What is evicted may be missing, never wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store = MemoryStore(65536, self.clock)
        self.model: dict[bytes, Entry] = {}
        self.embedded: set[bytes] = set()
        self.invalidated: dict[str, int] = {}
        self.puts = 0

    keys = st.integers(0, 30).map(str)

    def run(self, call: Any) -> Any:
        """Run a method, which never waits."""
        with pytest.raises(StopIteration) as ended:
            call.send(None)
        return ended.value.value

    def servable(self, found: Entry) -> bool:
        fresh = zip(found.tags, found.epochs, strict=True)
        return found.stale_until > self.clock.now and all(e >= self.invalidated.get(t, 0) for t, e in fresh)

    @property
    def alive(self) -> dict[bytes, Entry]:
        return {key: each for key, each in self.model.items() if self.servable(each)}

    @rule(
        name=keys,
        size=st.sampled_from([10, 400, 3000, 6000, 9000]),
        life=st.sampled_from([5.0, 100.0]),
        tags=st.sets(st.sampled_from(TAGS)).map(sorted),
        scope=st.sampled_from([None, *SCOPES]),
        tenant=st.sampled_from(TENANTS),
        at=st.none() | st.integers(0, 15),
    )
    def put(
        self,
        name: str,
        size: int,
        life: float,
        tags: list[str],
        scope: bytes | None,
        tenant: str,
        at: int | None,
    ) -> None:
        self.puts += 1
        made = entry(
            name,
            size,
            tenant=tenant,
            tags=tuple(tags),
            epochs=self.store.epochs(tags),
            stale_until=self.clock.now + life,
            scope=scope,
            canonical=digest(f"canonical {len(name)} {scope!r}") if scope else None,
            text=f"{name} {self.puts}" if scope else None,
        )
        old = self.model.get(made.key)
        if old is None or old.scope != scope or made.key not in self.store._slots:
            self.embedded.discard(made.key)
        refused = self.store.refused
        self.run(self.store.put(made, vector((at, 1)) if scope and at is not None else None))
        if scope and at is not None:
            self.embedded.add(made.key)
        self.model.pop(made.key, None)  # the newest is the last
        if self.store.refused == refused:
            self.model[made.key] = made

    @rule(name=keys)
    def get(self, name: str) -> None:
        found = self.run(self.store.get(digest(name)))
        assert found is None or found == self.alive.get(digest(name))

    @rule(name=keys)
    def delete(self, name: str) -> None:
        self.run(self.store.delete(digest(name)))
        self.model.pop(digest(name), None)
        assert self.run(self.store.get(digest(name))) is None

    @rule(tag=st.sampled_from(TAGS))
    def invalidate(self, tag: str) -> None:
        self.run(self.store.invalidate([tag]))
        (self.invalidated[tag],) = self.store.epochs([tag])

    @rule(tenant=st.sampled_from(TENANTS))
    def purge(self, tenant: str) -> None:
        of_it = {key for key, each in self.model.items() if each.tenant == tenant}
        here = sum(slot.tenant == tenant for slot in self.store._slots.values())
        assert self.run(self.store.purge(tenant)) == here <= len(of_it)
        for key in of_it:
            del self.model[key]

    @rule(seconds=st.sampled_from([1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def find(self, data: Any) -> None:
        canonical = data.draw(st.sampled_from(list(self.model.values()))).canonical
        if canonical is not None:
            here = [e for k, e in self.alive.items() if e.canonical == canonical and k in self.store._slots]
            assert self.run(self.store.find(canonical)) == (here[-1] if here else None)

    @rule(scope=st.sampled_from(SCOPES), at=st.integers(0, 15))
    def near(self, scope: bytes, at: int) -> None:
        here = {k for k in self.alive if k in self.store._slots and k in self.embedded}
        wanted = {key for key in here if self.model[key].scope == scope}
        found = self.run(self.store.near(scope, vector((at, 1)), 100))
        assert {each.entry.key for each in found} == wanted
        assert all(each.entry == self.model[each.entry.key] for each in found)

    @rule(scope=st.sampled_from(SCOPES), limit=st.sampled_from([2, 100]))
    def bare(self, scope: bytes, limit: int) -> None:
        here = {k: e for k, e in self.alive.items() if k in self.store._slots and k not in self.embedded}
        wanted = {(key, each.text) for key, each in here.items() if each.scope == scope}
        found = self.run(self.store.bare(scope, limit))
        assert len(found) == len(wanted) if limit == 100 else len(found) <= limit
        assert set(found) <= wanted
        assert not wanted or self.run(self.store.known(scope))

    @rule(name=keys, scope=st.sampled_from(SCOPES), at=st.integers(0, 15))
    def embed(self, name: str, scope: bytes, at: int) -> None:
        slot = self.store._slots.get(digest(name))
        self.run(self.store.embed(scope, digest(name), vector((at, 1))))
        if slot is not None and slot.scope == scope:
            self.embedded.add(digest(name))

    @invariant()
    def within_its_limit(self) -> None:
        assert 0 <= self.store.nbytes <= 65536

    @invariant()
    def all_is_in_step(self) -> None:
        """Nothing of what is gone is left in the dictionaries, nor in the sum of bytes."""
        store = self.store
        self.embedded &= set(store._slots)
        assert set(store._slots) <= set(self.model)
        for scope in SCOPES:
            members = [key for key, slot in store._slots.items() if slot.scope == scope]
            vectors = store._index.count(scope) if store._index is not None else 0
            assert store._bare.count(scope) + vectors == len(members)
            assert vectors == sum(key in self.embedded for key in members)
        if not store._slots:
            assert store._held == 0
            assert not store._canonical._groups


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


async def test_tasks_do_not_meet_inside() -> None:
    store = MemoryStore(room_for(50, 1000))
    made = [entry(str(number), stale_until=1e12) for number in range(500)]
    await asyncio.gather(*(store.put(each) for each in made), *(store.get(each.key) for each in made))
    assert store.nbytes <= store.max_bytes
