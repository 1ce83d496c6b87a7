"""The Redis store's own: what is in the server, what expires, what an old or broken server does."""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hasten.cache.store import scripts
from hasten.cache.store.redis import RedisStore
from hasten.cache.store.seal import Seal
from hasten.cache.store.trouble import NO_VECTOR_SETS
from hasten.errors import SettingsError, StoreError
from tests.cache import redis_server as servers
from tests.cache.redis_server import RedisServer
from tests.cache.stores import SECRET, Clock, asked, digest, entry, vector

SCOPE = digest("scope")


@asynccontextmanager
async def opened(
    server: RedisServer, seal: Seal | None = None, clock: Any = None, prefix: str = ""
) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url, prefix or uuid.uuid4().hex, seal, clock or Clock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def names(store: RedisStore) -> list[bytes]:
    found: list[bytes] = await store._client.execute_command("KEYS", f"{store._prefix}:*")
    return sorted(found)


async def test_nothing_stays_for_ever(redis_server: RedisServer) -> None:
    async with opened(redis_server) as store:
        await store.put(asked("one"), vector((0, 1)))
        await store.put(asked("bare"))
        await store.invalidate(["a"])
        found = await names(store)
        kinds = [name.split(b":")[1] for name in found]
        assert kinds == [b"b", b"c", b"c", b"e", b"e", b"epochs", b"t", b"v"]
        for name in found:
            life = await store._client.execute_command("PTTL", name)
            assert life > 0, name
            if name.split(b":")[1] in (b"e", b"c", b"v"):
                assert life <= 120_000


async def test_a_scope_lives_as_long_as_its_last_entry(redis_server: RedisServer) -> None:
    async with opened(redis_server) as store:
        await store.put(asked("long", stale_until=Clock().now + 1000), vector((0, 1)))
        await store.put(asked("short"), vector((1, 1)))
        await store.put(asked("bare"))
        await store.embed(SCOPE, digest("bare"), vector((2, 1)))
        (name,) = [name for name in await names(store) if b":v:" in name]
        assert await store._client.execute_command("PTTL", name) > 900_000


async def test_vectors_of_expired_entries_are_cleared_away(redis_server: RedisServer) -> None:
    clock = Clock()

    async def elements(store: RedisStore) -> int:
        return int(await store._client.execute_command("VCARD", store._at("v", SCOPE)))

    async with opened(redis_server, clock=clock) as store:
        for i in range(10):
            await store.put(asked(f"old {i}"), vector((i, 1)))
        await store.put(asked("old, found", tenant="other"), vector((20, 1)))
        assert await elements(store) == 11
        clock.now += 130
        await store.put(asked("new", stale_until=clock.now + 60), vector((21, 1)))
        assert await elements(store) == 2  # a tenant's go when it writes
        await store._client.execute_command("DEL", store._at("e", digest("old, found")))
        found = await store.near(SCOPE, vector((20, 1)), 5)
        assert [each.entry.key for each in found] == [digest("new")]
        assert await elements(store) == 1  # others when they are found


async def test_a_purge_leaves_nothing(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hasten.cache.store.redis.CHUNK", 7)
    async with opened(redis_server) as store:
        for i in range(20):
            await store.put(asked(str(i)), vector((i, 1)) if i % 2 else None)
        assert await store.purge("acme") == 20
        assert await names(store) == []


async def test_a_delete_leaves_nothing(redis_server: RedisServer) -> None:
    async with opened(redis_server) as store:
        await store.put(asked("one"), vector((0, 1)))
        await store.put(asked("bare"))
        await store.put(entry("exact"))
        for name in ("one", "bare", "exact"):
            await store.delete(digest(name))
        assert await names(store) == []


async def test_nothing_readable_is_in_the_server(redis_server: RedisServer) -> None:
    made = asked("one", tenant="SECRET", text="SECRET", body=b"SECRET" * 100, model="SECRET")
    async with opened(redis_server, Seal(SECRET)) as store:
        await store.put(made)
        assert await store.get(made.key) == made
        assert await store.bare(SCOPE, 1) == [(made.key, "SECRET")]
        for name in await names(store):
            assert b"SECRET" not in name
            assert b"SECRET" not in await store._client.execute_command("DUMP", name)
        assert b"SECRET" not in await store._client.execute_command("GET", store._at("e", made.key))


async def test_with_another_key_entries_are_not_there(redis_server: RedisServer) -> None:
    async with opened(redis_server, Seal(SECRET), prefix="sealed") as store:
        await store.put(asked("one"), vector((0, 1)))
        await store.put(asked("bare"))
    for seal in (Seal(bytes(32)), None):
        async with opened(redis_server, seal, prefix="sealed") as store:
            assert await store.get(digest("one")) is None
            assert await store.find(digest("canonical one")) is None
            assert await store.near(SCOPE, vector((0, 1)), 1) == []
            assert await store.bare(SCOPE, 1) == []
            await store.delete(digest("one"))


async def test_a_server_that_comes_back_empty(own_redis: RedisServer) -> None:
    async with opened(own_redis) as store:
        await store.invalidate(["a"])
        epochs = store.epochs(["a"])
        await store.put(asked("one"), vector((0, 1)))
        own_redis.kill()
        with pytest.raises(StoreError, match="could not be reached"):
            await store.get(digest("one"))
        own_redis.start()
        assert await store.get(digest("one")) is None
        assert await store.near(SCOPE, vector((0, 1)), 1) == []
        assert not await store.known(SCOPE)
        assert await store.bare(SCOPE, 1) == []
        assert await store.purge("acme") == 0
        # What began before the invalidation is not to be served now either.
        await store.put(entry("before", tags=("a",), epochs=(0,)))
        assert await store.get(digest("before")) is None
        await store.put(entry("after", tags=("a",), epochs=epochs))
        assert await store.get(digest("after")) is not None
        await store.invalidate(["a"])
        assert await store.get(digest("after")) is None


async def test_a_server_without_vector_sets(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PUT", "NEAR", "EMBED", "FORGET"):  # asked for what no server knows
        script = getattr(scripts, name)
        for command in ("VADD", "VSIM", "VEMB", "VREM"):
            script = script.replace(f"'{command}'", f"'NO{command}'")
        monkeypatch.setattr(scripts, name, script)
    clock = Clock()
    async with opened(redis_server, clock=clock) as store:
        with caplog.at_level(logging.WARNING, "hasten.cache"):
            await store.put(asked("one", tags=("a",), epochs=(0,)), vector((0, 1)))
            for call in (
                store.near(SCOPE, vector((0, 1)), 1),
                store.known(SCOPE),
                store.bare(SCOPE, 1),
                store.embed(SCOPE, digest("one"), vector((0, 1))),
            ):
                with pytest.raises(StoreError) as caught:
                    await call
                assert caught.value.code == NO_VECTOR_SETS
            await store.put(asked("two"))
        assert len(caplog.records) == 1
        assert await store.get(digest("one")) is not None
        assert await store.find(digest("canonical two")) is not None
        await store.invalidate(["a"])
        assert await store.get(digest("one")) is None
        clock.now += 61  # it may have been replaced
        with pytest.raises(StoreError) as caught:
            await store.near(SCOPE, vector((0, 1)), 1)
        assert caught.value.code == NO_VECTOR_SETS
        assert await store.purge("acme") == 2


async def test_a_server_that_is_full(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--maxmemory", "2mb")
    server.start()
    try:
        async with opened(server) as store:
            await store.put(entry("first"))
            with pytest.raises(StoreError, match="refused a command: OutOfMemory"):
                await store.put(entry("large", body=bytes(4_000_000)))
            assert await store.get(digest("first")) is not None
    finally:
        server.kill()


async def test_a_server_that_wants_a_password(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "word")
    server.start()
    try:
        async with opened(server) as store:
            with pytest.raises(StoreError, match="password"):
                await store.get(b"")
        server.url += "?password=word"
        async with opened(server) as store:
            assert await store.get(b"") is None
    finally:
        server.kill()


async def test_a_url_that_is_none() -> None:
    with pytest.raises(SettingsError, match=r"cache\.redis\.url"):
        RedisStore("http://secret@host", "p")


async def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(SettingsError, match=r"hasten\[redis\]"):
        RedisStore("redis://localhost", "p")


async def test_real_time(redis_server: RedisServer) -> None:
    async with opened(redis_server, clock=time.time) as store:
        made = entry("one", created=time.time(), stale_until=time.time() + 60)
        await store.put(made)
        assert await store.get(made.key) == made


def test_a_missing_server_fails_in_ci_and_is_told_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "command", lambda: "no mirror")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no mirror"):
        RedisServer(tmp_path)
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no mirror"):
        RedisServer(tmp_path)
