"""Stores of every kind for the tests that all of them have to pass, and entries to keep in them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hasten.cache.entry import Entry
from hasten.cache.store.base import Store
from hasten.cache.store.disk import DiskStore
from hasten.cache.store.memory import MemoryStore
from hasten.cache.store.redis import RedisStore
from hasten.cache.store.seal import Seal

WIDTH = 32  # of the tests' vectors
START = 1_700_000_000.0
SECRET = bytes(range(32))


class Clock:
    """A time that moves when told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


#: Makes a store; called again, another one that shares what is kept, as far as its kind does.
Make = Callable[[], Store]
#: Returns a :data:`Make`, given a folder, a clock and pytest's request.
Factory = Callable[[Path, Clock, pytest.FixtureRequest], Make]


def disk(seal: bool) -> Factory:
    def factory(folder: Path, clock: Clock, _: pytest.FixtureRequest) -> Make:
        key = Seal(SECRET) if seal else None
        return lambda: DiskStore(folder / "cache.db", 64 * 1024 * 1024, key, clock)

    return factory


def redis(seal: bool) -> Factory:
    def factory(_: Path, clock: Clock, request: pytest.FixtureRequest) -> Make:
        url = request.getfixturevalue("redis_server").url
        prefix, key = uuid.uuid4().hex, Seal(SECRET) if seal else None
        return lambda: RedisStore(url, prefix, key, clock)

    return factory


def memory(_: Path, clock: Clock, __: pytest.FixtureRequest) -> Make:
    return lambda: MemoryStore(64 * 1024 * 1024, clock)


#: Every kind of store, by name: the contract's tests are run with each.
FACTORIES: dict[str, Factory] = {
    "memory": memory,
    "disk": disk(seal=False),
    "disk-sealed": disk(seal=True),
    "redis": redis(seal=False),
    "redis-sealed": redis(seal=True),
}
#: Those whose contents another store object sees.
SHARED = ["disk", "disk-sealed", "redis", "redis-sealed"]


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def vector(*near: tuple[int, float]) -> NDArray[np.float32]:
    """Return a unit vector with these coordinates, by axis."""
    made = np.zeros(WIDTH, np.float32)
    for axis, value in near:
        made[axis] = value
    return made / np.float32(np.linalg.norm(made))


def entry(name: str, **changes: Any) -> Entry:
    """Return an entry whose key, body and text come from ``name``; fresh for 60 s, stale for 60 more."""
    fields: dict[str, Any] = {
        "key": digest(name),
        "tenant": "acme",
        "model": "m",
        "engine": "e",
        "provider": "p",
        "streamed": False,
        "body": f'{{"answer": "to {name}"}}'.encode(),
        "content_type": b"application/json",
        "created": START,
        "expires": START + 60,
        "stale_until": START + 120,
        "took": 0.5,
    }
    return Entry(**(fields | changes))


def asked(name: str, **changes: Any) -> Entry:
    """Return an entry that the semantic cache may use, in the scope ``scope``."""
    fields = {"scope": digest("scope"), "canonical": digest(f"canonical {name}"), "text": f"text of {name}"}
    return entry(name, **(fields | changes))
