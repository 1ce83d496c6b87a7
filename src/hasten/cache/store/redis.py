"""Entries in a Redis server, shared by gateways on several machines.

Keys, each with an expiry; ``p`` is the prefix, digests are in hexadecimal::

    p:e:<key>           the packed entry
    p:c:<canonical>     key of the newest entry with this canonical key
    p:v:<scope>         vector set; its elements are keys
    p:b:<scope>         hash, key -> text: entries that have no vector yet
    p:t:<tenant>        sorted set, key:scope:canonical -> expiry in ms: what a purge deletes
    p:epochs            sorted set, tag -> epoch; every read also asks for those it has not seen

Everything is one round trip (:mod:`hasten.cache.store.scripts`) but ``delete`` and ``purge``. The server bounds the
memory: give it ``maxmemory`` and an eviction policy. A purge reaches its memory, not its older dumps on a disk. For one
server, not for a Redis Cluster: a script touches several keys.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from hasten.cache.entry import Entry
from hasten.cache.store import scripts
from hasten.cache.store.base import Near, Stats
from hasten.cache.store.codec import Codec
from hasten.cache.store.epochs import ALL, KEPT, Epochs
from hasten.cache.store.seal import Seal
from hasten.cache.store.trouble import NO_VECTOR_SETS, trouble
from hasten.errors import SettingsError, StoreError

if TYPE_CHECKING:
    from hasten.cache.store.base import Vector

log = logging.getLogger("hasten.cache")

P = ParamSpec("P")
T = TypeVar("T")

CONNECTIONS = 32
CONNECT_LIMIT = 2.0  # seconds
LONGEST = 90 * 86400.0  # seconds an entry is kept at most
EPOCHS_KEPT = 2 * LONGEST
LIST_KEPT = (
    86400.0  # seconds that a tenant's list outlives its entries, so that their vectors can be cleared away
)
SWEEP = 16  # expired entries of a tenant whose vectors one put clears away
CHUNK = 500  # entries a purge deletes at once; the server does nothing else meanwhile
EFFORT = 64  # of a vector search: more takes longer and finds hardly more
QUANTIZATION = "Q8"  # a quarter of the memory; a similarity is off by up to 0.002
RECHECK = 60.0  # seconds after which a server that could not search vectors is tried again
ROUNDS = 3  # searches of one `near`: entries that may not be served are deleted and the search is done again


def _answers(
    method: Callable[Concatenate[RedisStore, P], Awaitable[T]],
) -> Callable[Concatenate[RedisStore, P], Coroutine[Any, Any, T]]:
    """Turn the library's errors into ours."""

    @functools.wraps(method)
    async def wrapped(self: RedisStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(self, *args, **kwargs)
        except (self.errors.RedisError, OSError) as exc:
            raise self.translated(exc) from exc

    return wrapped


class RedisStore:
    """A :class:`~hasten.cache.store.base.Store` in a Redis server; without vector sets (Redis 8) an exact one only.

    Then ``known``, ``near``, ``bare`` and ``embed`` raise :class:`StoreError` with the code ``no_vector_sets``. The
    server may be down when it is opened, may restart, and may come back empty.
    """

    name = "redis"

    def __init__(
        self, url: str, prefix: str, seal: Seal | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """``url``: ``redis://``, ``rediss://`` or ``unix://``. Raises :class:`SettingsError` if it is unusable."""
        try:
            import redis.asyncio as client
            from redis import exceptions
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError as exc:
            raise SettingsError(["cache.store: redis needs pip install 'hasten[redis]'"]) from exc
        try:
            # One retry, at once: the pool's connections are dead after a restart of the server, new ones are not.
            pool = client.BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=None,
                socket_timeout=None,
                socket_connect_timeout=CONNECT_LIMIT,
                retry=Retry(NoBackoff(), 1),
                protocol=2,
            )
        except ValueError as exc:
            raise SettingsError(["cache.redis.url: not redis://, rediss:// or unix://"]) from exc
        self.errors = exceptions
        self._client: Any = client.Redis.from_pool(pool)
        self._prefix = prefix
        self._codec = Codec(seal)
        self._clock = clock
        self._epochs = Epochs()
        self._without_vectors_until = 0.0

    async def open(self) -> None:
        """Do nothing: connections are made when they are needed."""

    @_answers
    async def get(self, key: bytes) -> Entry | None:
        data = await self._read(scripts.GET, self._at("e", key))
        return self._servable(key, data)

    @_answers
    async def put(self, entry: Entry, vector: Vector | None = None) -> None:
        now = self._clock()
        life = int(min(entry.stale_until - now, LONGEST) * 1000)
        if life <= 0:
            return
        semantic = entry.scope is not None and not self._is_without_vectors
        text = entry.text if semantic and vector is None else None
        try:
            await self._run(
                scripts.PUT,
                [
                    self._at("e", entry.key),
                    self._list(entry.tenant),
                    self._at("c", entry.canonical) if entry.canonical else "",
                    self._at("v", entry.scope or b""),
                    self._at("b", entry.scope or b""),
                ],
                self._prefix,
                self._codec.encode(entry),
                life,
                int(now * 1000),
                int(now * 1000) + life,
                _member(entry),
                entry.key.hex(),
                vector.tobytes() if semantic and vector is not None else b"",
                self._codec.close(entry.key, text.encode()) if text else b"",
                QUANTIZATION,
                SWEEP,
                int(LIST_KEPT * 1000),
            )
        except self.errors.ResponseError as exc:
            if not _no_such_command(exc):
                raise
            self.without_vectors()  # all else of the entry is kept by now

    @_answers
    async def delete(self, key: bytes) -> None:
        name = self._at("e", key)
        entry = self._codec.decode(key, await self._client.execute_command("GET", name))
        if entry is None:
            await self._client.execute_command("DEL", name)
        else:
            await self._forget(self._list(entry.tenant), [_member(entry)])

    # -- invalidation

    def epochs(self, tags: Sequence[str]) -> tuple[int, ...]:
        return self._epochs.of(tags)

    def allows(self, entry: Entry) -> bool:
        return self._epochs.allow(entry)

    @_answers
    async def invalidate(self, tags: Sequence[str]) -> None:
        epoch = self._epochs.begin(tags, self._clock())  # here at once, whatever becomes of the server
        if tags:
            await self._run(
                scripts.INVALIDATE,
                [f"{self._prefix}:epochs"],
                epoch,
                int(EPOCHS_KEPT * 1000),
                KEPT,
                ALL,
                *tags,
            )

    @_answers
    async def purge(self, tenant: str) -> int:
        name, count = self._list(tenant), 0
        while members := await self._client.execute_command("ZRANGE", name, 0, CHUNK - 1):
            count += await self._forget(name, members)
        return count

    # -- the semantic cache

    @_answers
    async def find(self, canonical: bytes) -> Entry | None:
        found = await self._read(scripts.FIND, self._at("c", canonical), self._at("e", b""))
        return self._servable(bytes.fromhex(found[0].decode()), found[1]) if found else None

    @_answers
    async def known(self, scope: bytes) -> bool:
        self._need_vectors()
        return bool(await self._client.execute_command("EXISTS", self._at("v", scope), self._at("b", scope)))

    @_answers
    async def near(self, scope: bytes, vector: Vector, limit: int) -> list[Near]:
        self._need_vectors()
        near: list[Near] = []
        for _ in range(ROUNDS):
            found = await self._read(
                scripts.NEAR, self._at("v", scope), self._at("e", b""), vector.tobytes(), limit, EFFORT
            )
            entries = [
                (self._codec.decode(bytes.fromhex(key.decode()), data), score) for key, score, data in found
            ]
            near = [
                Near(entry, 2.0 * float(score) - 1.0)  # the score of a vector set is (1 + cosine) / 2
                for entry, score in entries
                if entry is not None and self._is_servable(entry)
            ]
            gone = [entry for entry, _ in entries if entry is not None and not self._is_servable(entry)]
            if not gone:
                break
            for entry in gone:
                await self._forget(self._list(entry.tenant), [_member(entry)])
        return near

    @_answers
    async def bare(self, scope: bytes, limit: int) -> list[tuple[bytes, str]]:
        self._need_vectors()
        flat = await self._client.execute_command("HRANDFIELD", self._at("b", scope), limit, "WITHVALUES")
        texts = []
        for name, data in zip(flat[::2], flat[1::2], strict=True):
            key = bytes.fromhex(name.decode())
            text = self._codec.open(key, data)
            if text is not None:
                texts.append((key, text.decode()))
        return texts

    @_answers
    async def embed(self, scope: bytes, key: bytes, vector: Vector) -> None:
        self._need_vectors()
        names = [self._at("e", key), self._at("v", scope), self._at("b", scope)]
        await self._run(scripts.EMBED, names, key.hex(), vector.tobytes(), QUANTIZATION)

    # -- life

    def stats(self) -> Stats:
        """Return nothing: the server knows."""
        return Stats(None, None)

    @_answers
    async def close(self) -> None:
        await self._client.aclose()

    # -- within

    def translated(self, exc: Exception) -> StoreError:
        """Return our error for one of the library's. The texts are ours: a foreign one may carry addresses or keys."""
        if any(isinstance(each, self.errors.AuthenticationError) for each in (exc, exc.__cause__)):
            return trouble("Redis refused the user or the password")
        if not isinstance(exc, self.errors.ResponseError):
            return trouble(f"Redis could not be reached: {type(exc).__name__}")
        if _no_such_command(exc):
            return self.without_vectors()
        return trouble(f"Redis refused a command: {type(exc).__name__}")

    def without_vectors(self) -> StoreError:
        """Note that the server cannot search vectors, and return the error that says so."""
        message = "this Redis server has no vector sets, which the semantic cache needs: use Redis 8 or newer"
        if not self._without_vectors_until:
            log.warning("%s", message)
        self._without_vectors_until = self._clock() + RECHECK
        return trouble(message, NO_VECTOR_SETS)

    @property
    def _is_without_vectors(self) -> bool:
        return self._clock() < self._without_vectors_until

    def _need_vectors(self) -> None:
        if self._is_without_vectors:
            raise trouble("this Redis server has no vector sets", NO_VECTOR_SETS)

    def _at(self, kind: str, digest: bytes) -> str:
        return f"{self._prefix}:{kind}:{digest.hex()}"

    def _list(self, tenant: str) -> str:
        return self._at("t", hashlib.sha256(tenant.encode()).digest()[:16])

    def _is_servable(self, entry: Entry) -> bool:
        return self._clock() < entry.stale_until and self._epochs.allow(entry)

    def _servable(self, key: bytes, data: bytes | None) -> Entry | None:
        entry = self._codec.decode(key, data)
        return entry if entry is not None and self._is_servable(entry) else None

    async def _run(self, script: str, names: Sequence[str], *args: object) -> Any:
        return await self._client.execute_command("EVAL", script, len(names), *names, *args)

    async def _read(self, script: str, name: str, *args: object) -> Any:
        """Run a script that reads at ``name``; take over the epochs it tells, return its answer."""
        answer, news = await self._run(script, [f"{self._prefix}:epochs", name], self._epochs.seen, *args)
        if news:
            self._epochs.learn(
                [(tag.decode(), int(float(epoch))) for tag, epoch in zip(news[::2], news[1::2], strict=True)]
            )
        return answer

    async def _forget(self, name: str, members: Sequence[str | bytes]) -> int:
        return int(await self._run(scripts.FORGET, [name], self._prefix, *members))


def _member(entry: Entry) -> str:
    """Return what a tenant's list holds of an entry."""
    return f"{entry.key.hex()}:{(entry.scope or b'').hex()}:{(entry.canonical or b'').hex()}"


def _no_such_command(exc: Exception) -> bool:
    text = str(exc).lower()
    return "unknown" in text and "command" in text
