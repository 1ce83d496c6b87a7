"""A real Redis server goes away while there is work, and comes back."""

from __future__ import annotations

import asyncio
import time

import pytest

from hasten.cache.store import guard as guards
from hasten.cache.store.guard import Guard
from hasten.cache.store.redis import RedisStore
from hasten.errors import StoreError
from tests.cache.redis_server import RedisServer
from tests.cache.stores import digest, entry
from tests.cache.test_guard import LIMIT, SLACK, guarded


class Load:
    """Asks and writes all the time; notes how long each call took."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.slowest = 0.0
        self.hits = 0
        self.asked = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            for i in range(10):
                began = time.perf_counter()
                await self._guard.put(entry(f"load {i}", stale_until=time.time() + 60))
                found = await self._guard.get(digest(f"load {i}"))
                self.slowest = max(self.slowest, time.perf_counter() - began)
                self.asked += 1
                self.hits += found is not None
            await asyncio.sleep(0.001)

    async def until_hit(self) -> None:
        """Wait for answers from the store."""
        self.hits = 0
        async with asyncio.timeout(8):
            while self.hits < 20:
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


async def test_redis_goes_away_and_comes_back(own_redis: RedisServer) -> None:
    async with guarded(RedisStore(own_redis.url, "test")) as (guard, troubles):
        load = Load(guard)
        await load.until_hit()
        assert "store_error" not in troubles

        own_redis.freeze()
        asked = load.asked
        await asyncio.sleep(0.3)
        assert load.asked > asked + 100
        assert troubles["store_timeout"] > 0
        own_redis.thaw()
        await load.until_hit()

        own_redis.kill()
        await asyncio.sleep(0.3)
        assert troubles["store_error"] > 0
        own_redis.start()  # empty
        await load.until_hit()
        await load.end()
        assert load.slowest < LIMIT + SLACK


async def test_redis_is_not_there_at_first(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "ADMIN_LIMIT", 0.1)
    own_redis.kill()
    async with guarded(RedisStore(own_redis.url, "test")) as (guard, troubles):
        assert await guard.get(b"") is None
        assert troubles == {"store_error": 1}
        with pytest.raises(StoreError, match="could not be reached"):
            await guard.invalidate(["a"])
        own_redis.start()
        own_redis.freeze()
        with pytest.raises(StoreError, match="did not answer"):
            await guard.invalidate(["a"])
        own_redis.thaw()
        load = Load(guard)
        await load.until_hit()
        await load.end()
