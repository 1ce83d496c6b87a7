"""What every store has to do; :mod:`tests.cache.stores` lists them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hasten.cache.store.base import Store
from hasten.cache.store.epochs import ALL, KEPT
from tests.cache.stores import FACTORIES, SHARED, START, Clock, Make, asked, digest, entry, vector

SCOPE = digest("scope")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=list(FACTORIES))
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Make:
    return FACTORIES[request.param](tmp_path, clock, request)


@pytest.fixture(params=SHARED)
def make_shared(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Make:
    return FACTORIES[request.param](tmp_path, clock, request)


@asynccontextmanager
async def opened(make: Make) -> AsyncIterator[Store]:
    store = make()
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def near(store: Store, *axes: tuple[int, float], limit: int = 8) -> list[tuple[bytes, float]]:
    found = await store.near(SCOPE, vector(*axes), limit)
    return [(each.entry.key, round(each.similarity, 2)) for each in found]


# -- one entry


async def test_get_returns_what_was_put(make: Make) -> None:
    full = asked(
        "full",
        streamed=True,
        body=bytes(range(256)) * 40,
        input_tokens=3,
        output_tokens=4,
        finish_reason="stop",
        marks=((0.5, True), (0.25, False)),
        text="Où est-ce?",
    )
    async with opened(make) as store:
        assert await store.get(full.key) is None
        await store.put(full)
        assert await store.get(full.key) == full
        await store.put(entry("other"))
        assert await store.get(full.key) == full


async def test_put_replaces(make: Make) -> None:
    async with opened(make) as store:
        await store.put(entry("one"))
        await store.put(entry("one", body=b"newer"))
        found = await store.get(digest("one"))
        assert found is not None
        assert found.body == b"newer"


async def test_delete(make: Make) -> None:
    async with opened(make) as store:
        await store.put(asked("one"), vector((0, 1)))
        await store.put(asked("two"), vector((1, 1)))
        await store.delete(digest("one"))
        await store.delete(digest("never there"))
        assert await store.get(digest("one")) is None
        assert await store.find(digest("canonical one")) is None
        assert await near(store, (0, 1)) == [(digest("two"), 0.0)]


async def test_an_entry_is_served_until_stale_until(make: Make, clock: Clock) -> None:
    async with opened(make) as store:
        await store.put(asked("one"), vector((0, 1)))
        clock.now = START + 119.9
        assert await store.get(digest("one")) is not None
        assert await near(store, (0, 1)) == [(digest("one"), 1.0)]
        clock.now = START + 120
        assert await store.get(digest("one")) is None
        assert await store.find(digest("canonical one")) is None
        assert await near(store, (0, 1)) == []
        await store.put(entry("late"))  # over before it is put
        assert await store.get(digest("late")) is None


async def test_many_at_once(make: Make) -> None:
    async with opened(make) as store:
        entries = [entry(str(i), body=bytes(100 + i)) for i in range(200)]
        await asyncio.gather(*(store.put(each) for each in entries))
        assert await asyncio.gather(*(store.get(each.key) for each in entries)) == entries


# -- invalidation


async def test_invalidation_reaches_what_is_kept_and_what_is_under_way(make: Make) -> None:
    async with opened(make) as store:
        assert store.epochs(["a", "b"]) == (0, 0)
        before = store.epochs(["a", "b"])
        await store.put(asked("kept", tags=("a", "b"), epochs=before), vector((0, 1)))
        await store.put(entry("untagged"))
        await store.put(entry("other", tags=("c",), epochs=store.epochs(["c"])))
        await store.invalidate(["b", "unheard of"])
        await store.put(entry("under way", tags=("a", "b"), epochs=before))
        assert await store.get(digest("kept")) is None
        assert await store.find(digest("canonical kept")) is None
        assert await near(store, (0, 1)) == []
        assert await store.get(digest("under way")) is None
        assert await store.get(digest("untagged")) is not None
        assert await store.get(digest("other")) is not None

        assert await store.get(b"") is None  # hears of it
        after = store.epochs(["a", "b"])
        assert after > before
        await store.put(asked("kept", tags=("a", "b"), epochs=after), vector((0, 1)))
        assert await store.get(digest("kept")) is not None
        assert await near(store, (0, 1)) == [(digest("kept"), 1.0)]


async def test_each_invalidation_is_a_new_epoch(make: Make, clock: Clock) -> None:
    async with opened(make) as store:
        seen = [store.epochs(["a"])]
        for _ in range(3):
            clock.now -= 1  # a clock that is set back
            await store.invalidate(["a"])
            seen.append(store.epochs(["a"]))
        assert seen == sorted(set(seen))


async def tagged(store: Store, name: str) -> bytes:
    """Keep an entry whose request begins now."""
    tags = (ALL, f"tag of {name}")
    await store.put(entry(name, tags=tags, epochs=store.epochs(tags)))
    return digest(name)


def known(store: Any) -> int:
    return len(store._epochs._known)


async def test_invalidated_tags_are_not_remembered_for_ever(make: Make, clock: Clock) -> None:
    async with opened(make) as store:
        gone, early = await tagged(store, "gone"), await tagged(store, "early")
        await store.invalidate(["tag of gone"])
        for i in range(30):
            # What is forgotten rules out all that is older, and it only.
            assert (await store.get(early) is None) == (1000 * i >= KEPT)
            assert await store.get(gone) is None
            if i == 25:
                late, doomed = await tagged(store, "late"), await tagged(store, "doomed")
            clock.now += 1
            await store.invalidate([f"{i} {n}" for n in range(1000)])
        await store.invalidate(["tag of doomed"])
        assert await store.get(doomed) is None
        assert await store.get(late) is not None
        assert known(store) <= KEPT


async def test_nor_by_a_store_that_is_shared(make_shared: Make, clock: Clock) -> None:
    async with opened(make_shared) as store:
        early = await tagged(store, "early")
        for i in range(11):
            clock.now += 1
            await store.invalidate([f"{i} {n}" for n in range(1000)])
        assert await store.get(early) is None
        late = await tagged(store, "late")
    async with opened(make_shared) as store:
        assert await store.get(early) is None
        assert await store.get(late) is not None
        assert 0 < known(store) <= KEPT


async def test_nothing_to_invalidate(make: Make) -> None:
    async with opened(make) as store:
        await store.put(entry("one", tags=("a",), epochs=(0,)))
        await store.invalidate([])
        assert await store.get(digest("one")) is not None


async def test_purge_deletes_a_tenant_and_no_other(make: Make) -> None:
    async with opened(make) as store:
        for i in range(5):
            await store.put(asked(f"acme {i}"), vector((i, 1)))
        await store.put(asked("acme bare"))
        await store.put(asked("other", tenant="other"), vector((9, 1)))
        assert await store.purge("acme") == 6
        assert await store.purge("acme") == 0
        assert await store.get(digest("acme 0")) is None
        assert await store.find(digest("canonical acme 0")) is None
        assert await store.bare(SCOPE, 10) == []
        assert await near(store, (0, 1)) == [(digest("other"), 0.0)]
        assert await store.get(digest("other")) is not None


# -- the semantic cache


async def test_find_returns_the_newest(make: Make) -> None:
    async with opened(make) as store:
        assert await store.find(digest("same")) is None
        await store.put(asked("one", canonical=digest("same")))
        await store.put(asked("two", canonical=digest("same"), created=START + 1))
        found = await store.find(digest("same"))
        assert found is not None
        assert found.key == digest("two")
        assert await store.find(digest("one")) is None  # a key is no canonical key


async def test_known(make: Make) -> None:
    async with opened(make) as store:
        assert not await store.known(SCOPE)
        await store.put(entry("exact only"))
        assert not await store.known(SCOPE)
        await store.put(asked("one"))
        assert await store.known(SCOPE)
        assert not await store.known(digest("another scope"))


async def test_near_in_order_of_similarity(make: Make) -> None:
    async with opened(make) as store:
        assert await near(store, (0, 1)) == []
        await store.put(asked("same"), vector((0, 1)))
        await store.put(asked("close"), vector((0, 0.8), (1, 0.6)))
        await store.put(asked("far"), vector((1, 1)))
        await store.put(asked("opposite"), vector((0, -1)))
        await store.put(asked("elsewhere", scope=digest("another scope")), vector((0, 1)))
        found = await near(store, (0, 1))
        assert [key for key, _ in found] == [digest(name) for name in ("same", "close", "far", "opposite")]
        assert [score for _, score in found] == pytest.approx([1, 0.8, 0, -1], abs=0.02)
        assert [key for key, _ in await near(store, (0, 1), limit=2)] == [digest("same"), digest("close")]


async def test_near_returns_whole_entries(make: Make) -> None:
    async with opened(make) as store:
        await store.put(asked("one"), vector((0, 1)))
        assert [found.entry for found in await store.near(SCOPE, vector((0, 1)), 1)] == [asked("one")]


async def test_entries_without_a_vector_are_bare_until_they_get_one(make: Make) -> None:
    async with opened(make) as store:
        await store.put(asked("one"))
        await store.put(asked("two", text="zwei, süß"))
        await store.put(asked("embedded"), vector((5, 1)))
        bare = await store.bare(SCOPE, 10)
        assert sorted(bare) == sorted([(digest("one"), "text of one"), (digest("two"), "zwei, süß")])
        assert len(await store.bare(SCOPE, 1)) == 1
        assert await store.bare(digest("another scope"), 10) == []

        await store.embed(SCOPE, digest("one"), vector((0, 1)))
        await store.embed(SCOPE, digest("gone"), vector((0, 1)))
        assert [key for key, _ in await store.bare(SCOPE, 10)] == [digest("two")]
        assert await near(store, (0, 1), limit=1) == [(digest("one"), 1.0)]


async def test_an_entry_keeps_its_vector_when_it_is_put_without(make: Make) -> None:
    async with opened(make) as store:
        await store.put(asked("one"), vector((0, 1)))
        await store.put(asked("one", marks=((0.75, True),)))
        assert await store.bare(SCOPE, 10) == []
        (found,) = await store.near(SCOPE, vector((0, 1)), 1)
        assert found.entry.marks == ((0.75, True),)


async def test_entries_that_are_gone_do_not_hide_those_that_are_not(make: Make) -> None:
    async with opened(make) as store:
        for i in range(20):
            await store.put(asked(f"old {i}", tags=("a",), epochs=(0,)), vector((0, 1), (1, 0.01 * i)))
        await store.put(asked("good"), vector((0, 1), (2, 1)))
        assert len(await near(store, (0, 1))) == 8
        await store.invalidate(["a"])
        for _ in range(3):  # what is gone is cleared away as it is met
            found = await near(store, (0, 1))
        assert [key for key, _ in found] == [digest("good")]


# -- several workers


async def test_another_store_sees_it(make_shared: Make) -> None:
    async with opened(make_shared) as one, opened(make_shared) as two:
        await one.put(asked("one"), vector((0, 1)))
        assert await two.get(digest("one")) == asked("one")
        assert await two.find(digest("canonical one")) == asked("one")
        assert await near(two, (0, 1)) == [(digest("one"), 1.0)]
        await one.put(asked("two"), vector((0, 0.8), (1, 0.6)))
        assert [key for key, _ in await near(two, (0, 1))] == [digest("one"), digest("two")]
        await two.delete(digest("one"))
        assert await one.get(digest("one")) is None
        assert [key for key, _ in await near(one, (0, 1))] == [digest("two")]


async def test_another_store_heeds_an_invalidation_at_once(make_shared: Make) -> None:
    async with opened(make_shared) as one, opened(make_shared) as two:
        await one.put(asked("one", tags=("a",), epochs=one.epochs(["a"])), vector((0, 1)))
        assert await two.get(digest("one")) is not None
        assert await near(two, (0, 1)) != []
        await one.invalidate(["a"])
        assert await two.get(digest("one")) is None
        assert await near(two, (0, 1)) == []
        assert two.epochs(["a"]) == one.epochs(["a"])  # known since that get
        await two.invalidate(["a", "b"])
        await one.get(b"")
        assert one.epochs(["a", "b"]) == two.epochs(["a", "b"])


async def test_it_is_warm_when_opened_again(make_shared: Make) -> None:
    async with opened(make_shared) as store:
        await store.invalidate(["a"])
        epochs = store.epochs(["a"])
        await store.put(asked("one", tags=("a",), epochs=epochs), vector((0, 1)))
    async with opened(make_shared) as store:
        assert await near(store, (0, 1)) == [(digest("one"), 1.0)]
        assert await store.get(digest("one")) is not None
        assert store.epochs(["a"]) == epochs
