"""A store around a store, which never holds up a request for longer than its limit.

Reads that take too long, two in a row, or one that fails open a gate: for a while, doubled each time, nothing is asked
and everything is a miss, but for one call at a time that tries again. Writes wait in a queue, which one task empties.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

from hasten.cache.entry import Entry
from hasten.cache.store.base import Near, Stats, Store
from hasten.cache.store.trouble import NO_VECTOR_SETS, trouble
from hasten.errors import StoreError

if TYPE_CHECKING:
    from hasten.cache.store.base import Vector

log = logging.getLogger("hasten.cache")

P = ParamSpec("P")
T = TypeVar("T")

FIRST = 0.1  # seconds the gate is open at first: little is lost if it was this process that stalled
LONGEST = 10.0
FORGIVEN = 1  # calls in a row that may take too long: a busy machine delays one now and then
QUEUED = 1000  # writes
QUEUED_BYTES = 64 * 1024 * 1024
WRITE_LIMIT = 2.0  # seconds; nobody waits for these but the writes behind
ADMIN_LIMIT = 2.0  # seconds for an invalidation
PURGE_LIMIT = 30.0  # seconds; bytes are overwritten one by one
FLUSH_LIMIT = 1.0  # seconds for what is queued at the end


class Gate:
    """Whether the store may be asked: always, until a call fails; then one call at a time, ever more rarely."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wait = 0.0  # seconds between two attempts; 0 while all is well
        self._opened = self._heard = 0.0
        self._silent = 0  # calls in a row without an answer
        self._probing = False

    @property
    def refuses(self) -> bool:
        """Whether a call that came now would be turned away."""
        return self._wait > 0 and (self._probing or self._clock() < self._opened + self._wait)

    def enter(self) -> float | None:
        """Return the time at which a call begins, to be handed back at its end; ``None``: it must not be made."""
        if self.refuses:
            return None
        self._probing = self._wait > 0
        return self._clock()

    def answered(self) -> None:
        """A call came back."""
        self._heard = self._clock()
        self._silent = 0
        self._wait = 0.0
        self._probing = False

    def failed(self, began: float, silent: bool) -> None:
        """A call failed; ``silent``: it was given up for taking too long."""
        if self._wait and began < self._opened:
            return  # under way already when another opened the gate
        if silent and self._heard > began:
            return  # others were answered meanwhile: there is much to do, but the store is well
        self._silent += silent
        if silent and self._silent <= FORGIVEN:
            return
        self._wait = min(self._wait * 2, LONGEST) or FIRST
        self._opened = self._clock()
        self._probing = False

    def left(self, began: float) -> None:
        """A call was given up by its caller: nothing is known of the store."""
        if began >= self._opened:
            self._probing = False


class Write(NamedTuple):
    """One write that waits."""

    tenant: str | None
    size: int  # bytes
    make: Callable[[], Awaitable[None]]


class Guard:
    """Stands before a store and answers in its place when it is late, in error or gone. A :class:`Store` itself.

    Reads (``get``, ``find``, ``known``, ``near``, ``bare``) take up to ``timeout`` seconds, raise nothing and return
    ``None``, ``False`` or ``[]`` in trouble. ``put``, ``delete`` and ``embed`` return at once and are carried out
    later, in order, or dropped. ``invalidate`` and ``purge`` are carried out before they return, and raise
    :class:`StoreError` if they could not be; an invalidation holds in this process even then.

    ``on_trouble`` is told why a read was not made or a write was dropped: ``store_timeout``, ``store_error``,
    ``store_open`` (the gate is), ``store_busy`` (the queue is full), ``no_vector_sets``.
    """

    def __init__(
        self,
        store: Store,
        timeout: float,
        on_trouble: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = store.name
        self._store = store
        self._timeout = timeout
        self._on_trouble = on_trouble
        # Two gates: a full disk can still be read.
        self._reads = Gate(clock)
        self._writes = Gate(clock)
        self._queue: deque[Write] = deque()
        self._queued = 0  # bytes
        self._filled = asyncio.Event()
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._closing = False

    async def open(self) -> None:
        await self._store.open()
        self._writer = asyncio.create_task(self._write_all(), name="cache writer")

    # -- reads

    async def get(self, key: bytes) -> Entry | None:
        return await self._read(None, self._store.get, key)

    async def find(self, canonical: bytes) -> Entry | None:
        return await self._read(None, self._store.find, canonical)

    async def known(self, scope: bytes) -> bool:
        return await self._read(False, self._store.known, scope)

    async def near(self, scope: bytes, vector: Vector, limit: int) -> list[Near]:
        return await self._read([], self._store.near, scope, vector, limit)

    async def bare(self, scope: bytes, limit: int) -> list[tuple[bytes, str]]:
        return await self._read([], self._store.bare, scope, limit)

    async def _read(
        self, otherwise: T, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._limited(self._reads, self._timeout, otherwise, lambda: call(*args, **kwargs))

    async def _limited(self, gate: Gate, limit: float, otherwise: T, call: Callable[[], Awaitable[T]]) -> T:
        began = gate.enter()
        if began is None:
            self._on_trouble("store_open")
            return otherwise
        try:
            async with asyncio.timeout(limit):
                answer = await call()
        except TimeoutError:
            gate.failed(began, silent=True)
            self._trouble(f"the store did not answer within {limit:g} s", "store_timeout")
            return otherwise
        except StoreError as exc:
            if exc.code == NO_VECTOR_SETS:
                gate.answered()
                self._on_trouble(NO_VECTOR_SETS)
            else:
                gate.failed(began, silent=False)
                self._trouble(exc.message, "store_error")
            return otherwise
        except BaseException:
            gate.left(began)
            raise
        gate.answered()
        return answer

    def _trouble(self, why: str, code: str) -> None:
        log.debug("the cache's store (%s): %s", self.name, why)
        self._on_trouble(code)

    # -- writes

    async def put(self, entry: Entry, vector: Vector | None = None) -> None:
        self.keep(entry, vector)

    def keep(self, entry: Entry, vector: Vector | None = None) -> None:
        size = entry.size + (0 if vector is None else vector.nbytes)
        self._enqueue(Write(entry.tenant, size, lambda: self._store.put(entry, vector)))

    async def delete(self, key: bytes) -> None:
        self._enqueue(Write(None, len(key), lambda: self._store.delete(key)))

    async def embed(self, scope: bytes, key: bytes, vector: Vector) -> None:
        self._enqueue(Write(None, vector.nbytes, lambda: self._store.embed(scope, key, vector)))

    def _enqueue(self, write: Write) -> None:
        if self._reads.refuses or self._writes.refuses:
            self._on_trouble("store_open")
        elif len(self._queue) >= QUEUED or self._queued + write.size > QUEUED_BYTES:
            self._on_trouble("store_busy")
        else:
            self._queue.append(write)
            self._queued += write.size
            self._filled.set()

    async def _write_all(self) -> None:
        while self._queue or not self._closing:
            await self._filled.wait()
            async with self._writing:
                if self._queue:
                    write = self._queue.popleft()
                    self._queued -= write.size
                    await self._limited(self._writes, WRITE_LIMIT, None, write.make)
                if not self._queue and not self._closing:
                    self._filled.clear()

    # -- invalidation

    def epochs(self, tags: Sequence[str]) -> tuple[int, ...]:
        return self._store.epochs(tags)

    def allows(self, entry: Entry) -> bool:
        return self._store.allows(entry)

    async def invalidate(self, tags: Sequence[str]) -> None:
        try:
            async with asyncio.timeout(ADMIN_LIMIT):
                await self._store.invalidate(tags)
        except TimeoutError as exc:
            raise trouble("the store did not answer: the tags are invalid in this process only") from exc

    async def purge(self, tenant: str) -> int:
        try:
            async with asyncio.timeout(PURGE_LIMIT):
                # What is being written would come after the purge; what waits of the tenant is forgotten.
                async with self._writing:
                    self._queue = deque(write for write in self._queue if write.tenant != tenant)
                    self._queued = sum(write.size for write in self._queue)
                return await self._store.purge(tenant)
        except TimeoutError as exc:
            raise trouble("the store did not answer: not all of the tenant's entries are deleted") from exc

    # -- life

    def stats(self) -> Stats:
        return self._store.stats()

    async def close(self) -> None:
        """Carry out what is queued, for up to a second, and close the store."""
        self._closing = True
        self._filled.set()
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=FLUSH_LIMIT)
            self._writer.cancel()
        with contextlib.suppress(TimeoutError, StoreError):
            async with asyncio.timeout(FLUSH_LIMIT):
                await self._store.close()
