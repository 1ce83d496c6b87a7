"""The store in the process's own memory, which lasts as long as the process and is this worker's alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from hasten.cache.entry import Entry, pack, unpack
from hasten.cache.store.base import Near, Stats
from hasten.cache.store.epochs import Epochs
from hasten.cache.store.eviction import Camp, Slot

if TYPE_CHECKING:
    from hasten.cache.store.base import Vector
    from hasten.cache.store.index import VectorIndex

SHARE = 8  # no entry takes more than this part of all
GLANCES = 2  # entries looked at for whether they are over, with each that is put when there is no room
ROUNDS = 4  # searches of one call: what is found to be gone is cleared away, and another search made

# Bytes of memory, measured: bench/eviction.py --fill.
ENTRY_BYTES = 450  # slot, key, its numbers, its places in dictionary and queue, the header of its data
SEMANTIC_BYTES = 330  # scope and canonical key, and their places in the dictionaries
WASTE = 6  # one part in so many of the data is lost between the blocks of the C heap


class MemoryStore:
    """A :class:`~hasten.cache.store.base.Store` that never holds more than ``max_bytes``, its own needs included.

    Entries are kept packed. What goes when there is no room: what is over, then by :class:`Camp`. An entry larger
    than an eighth of ``max_bytes`` is not kept (``refused`` counts these). ``clock``: Unix seconds. Nothing here
    waits, so nothing happens between the lines of a method.
    """

    name = "memory"

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self.max_bytes = max_bytes
        self.refused = 0
        self._clock = clock
        self._epochs = Epochs()
        self._evictions = 0
        self.clear()

    def clear(self) -> None:
        """Forget all entries."""
        self._slots: dict[bytes, Slot] = {}
        self._policy = Camp()
        self._canonical = Groups()
        self._bare = Groups()
        self._index: VectorIndex | None = None
        self._held = 0  # bytes of the slots

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of memory that all of it takes."""
        return self._held + self._policy.nbytes + (self._index.nbytes if self._index is not None else 0)

    def stats(self) -> Stats:
        return Stats(len(self._slots), self.nbytes, self._evictions)

    # -- one entry

    async def get(self, key: bytes) -> Entry | None:
        slot = self._slots.get(key)
        if slot is None:
            return None
        entry = self._read(slot)
        if entry is not None:
            self._policy.hit(slot)
        return entry

    async def put(self, entry: Entry, vector: Vector | None = None) -> None:
        self.keep(entry, vector)

    def keep(self, entry: Entry, vector: Vector | None = None) -> None:
        # A copy takes its own length; what was packed lies in a larger block, shrunk, whose rest is of little use.
        data = bytes(memoryview(pack(entry)))
        scope, canonical = entry.scope or b"", entry.canonical or b""
        old = self._slots.get(entry.key)
        size = _size(data, scope)
        if size > self.max_bytes // SHARE or entry.stale_until <= self._clock():
            self.refused += size > self.max_bytes // SHARE
            self._forget(old)
            return
        # An entry that is replaced in its scope keeps its place there, with its vector.
        stays = old is not None and bool(scope) and old.scope == scope
        uses = 1
        if old is not None:
            uses = old.uses
            self._forget(old, stays)
        self._make_room(size)
        slot = Slot(
            stale_until=entry.stale_until,
            key=entry.key,
            data=data,
            tenant=entry.tenant,
            scope=scope,
            canonical=canonical,
            uses=uses,
        )
        self._slots[entry.key] = slot
        self._held += size
        self._policy.add(slot, entry.took, size)
        if canonical:
            self._canonical.add(canonical, entry.key)
        if scope and vector is not None:
            self._place(slot, vector)
        elif scope and not stays:
            self._bare.add(scope, entry.key)

    async def delete(self, key: bytes) -> None:
        self._forget(self._slots.get(key))

    def _read(self, slot: Slot) -> Entry | None:
        """Return a slot's entry, if it may still be served; clear it away if not."""
        if slot.stale_until > self._clock():
            entry = unpack(slot.data)
            if self._epochs.allow(entry):
                return entry
        self._forget(slot)
        return None

    def _forget(self, slot: Slot | None, stays: bool = False) -> None:
        """Give up a slot; ``stays``: another takes its place in the scope."""
        if slot is not None:
            self._clear(slot, stays)
            self._policy.remove(slot)

    def _clear(self, slot: Slot, stays: bool = False) -> None:
        """Take a slot out of everything but the policy."""
        del self._slots[slot.key]
        self._held -= _size(slot.data, slot.scope)
        if slot.canonical:
            self._canonical.remove(slot.canonical, slot.key)
        if (
            slot.scope
            and not stays
            and not self._bare.remove(slot.scope, slot.key)
            and self._index is not None
        ):
            self._index.remove(slot.scope, slot.key)

    def _make_room(self, size: int) -> None:
        limit = self.max_bytes - size
        if self.nbytes <= limit:
            return
        now = self._clock()
        for _ in range(GLANCES):
            slot = self._policy.glance()
            if slot is not None and slot.stale_until <= now:
                self._forget(slot)
        while self.nbytes > limit and (slot := self._policy.take()) is not None:
            self._evictions += slot.stale_until > now
            self._clear(slot)

    # -- invalidation

    def epochs(self, tags: Sequence[str]) -> tuple[int, ...]:
        return self._epochs.of(tags)

    def allows(self, entry: Entry) -> bool:
        return self._epochs.allow(entry)

    async def invalidate(self, tags: Sequence[str]) -> None:
        epoch = self._epochs.begin(tags, self._clock())
        self._epochs.learn([(tag, epoch) for tag in tags])

    async def purge(self, tenant: str) -> int:
        gone = [slot for slot in self._slots.values() if slot.tenant == tenant]
        if len(gone) == len(self._slots):
            self.clear()
            return len(gone)
        if self._index is not None:
            # A scope of which nothing is left goes as a whole: to take 100,000 out of a graph takes seconds.
            for scope, count in Counter(slot.scope for slot in gone).items():
                if count == self._index.count(scope) + self._bare.count(scope):
                    self._index.drop(scope)
        for slot in gone:
            self._forget(slot)
        return len(gone)

    # -- the semantic cache

    async def find(self, canonical: bytes) -> Entry | None:
        while keys := self._canonical.newest(canonical, 1):
            entry = await self.get(keys[0])
            if entry is not None:
                return entry
        return None

    async def known(self, scope: bytes) -> bool:
        return scope in self._bare or (self._index is not None and scope in self._index)

    async def near(self, scope: bytes, vector: Vector, limit: int) -> list[Near]:
        if self._index is None:
            return []
        for wanted in (limit << 2 * turn for turn in range(ROUNDS)):
            found = self._index.near(scope, vector, wanted)
            read = ((self._read(self._slots[key]), similarity) for key, similarity in found)
            near = [Near(entry, similarity) for entry, similarity in read if entry is not None]
            if len(near) >= limit or len(near) == len(found):
                break
        if near:
            self._policy.hit(self._slots[near[0].entry.key])
        return near[:limit]

    async def bare(self, scope: bytes, limit: int) -> list[tuple[bytes, str]]:
        for _ in range(ROUNDS):
            keys = self._bare.newest(scope, limit)
            read = [self._read(self._slots[key]) for key in keys]
            found = [(entry.key, entry.text or "") for entry in read if entry is not None]
            if len(found) == len(keys):
                break
        return found

    async def embed(self, scope: bytes, key: bytes, vector: Vector) -> None:
        slot = self._slots.get(key)
        if slot is not None and slot.scope == scope:
            self._place(slot, vector)

    def _place(self, slot: Slot, vector: Vector) -> None:
        if self._index is None:
            from hasten.cache.store.index import VectorIndex  # needs numpy, an extra

            self._index = VectorIndex()
        self._bare.remove(slot.scope, slot.key)
        self._index.add(slot.scope, slot.key, vector)
        self._make_room(0)


class Groups:
    """Keys by what they have in common, the newest last. Nearly all groups are of one, and cost no container."""

    def __init__(self) -> None:
        self._groups: dict[bytes, bytes | dict[bytes, None]] = {}

    def __contains__(self, group: object) -> bool:
        return group in self._groups

    def count(self, group: bytes) -> int:
        """Return how many keys are in ``group``."""
        held = self._groups.get(group)
        return len(held) if isinstance(held, dict) else int(held is not None)

    def add(self, group: bytes, key: bytes) -> None:
        """Add a key, as the newest."""
        held = self._groups.get(group)
        if isinstance(held, dict):
            held.pop(key, None)
            held[key] = None
        else:
            self._groups[group] = key if held is None or held == key else {held: None, key: None}

    def remove(self, group: bytes, key: bytes) -> bool:
        """Take a key out; return whether it was in."""
        held = self._groups.get(group)
        if isinstance(held, dict):
            if key not in held:
                return False
            del held[key]
            if not held:
                del self._groups[group]
            return True
        if held != key:
            return False
        del self._groups[group]
        return True

    def newest(self, group: bytes, limit: int) -> list[bytes]:
        """Return up to ``limit`` keys, the newest first."""
        held = self._groups.get(group)
        if isinstance(held, dict):
            return list(islice(reversed(held), limit))
        return [] if held is None else [held]


def _size(data: bytes, scope: bytes) -> int:
    """Return the bytes of memory that an entry takes, without its vector."""
    return ENTRY_BYTES + len(data) + len(data) // WASTE + (SEMANTIC_BYTES if scope else 0)
