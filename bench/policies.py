"""Eviction policies that :mod:`eviction` compares with the memory store's own. Nothing is deleted but by them."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque

from hasten.cache.store.eviction import HIT, Camp, Slot


class Lru:
    """The least recently used goes."""

    def __init__(self) -> None:
        self._slots: OrderedDict[bytes, Slot] = OrderedDict()

    def add(self, slot: Slot, cost: float, size: int) -> None:
        self._slots[slot.key] = slot

    def hit(self, slot: Slot) -> None:
        self._slots.move_to_end(slot.key)

    def take(self) -> Slot | None:
        return self._slots.popitem(last=False)[1] if self._slots else None


class S3Fifo:
    """S3-FIFO (Yang et al., SOSP 2023), in bytes.

    A small queue (a tenth) for what is new, a main queue for what was used there or was thrown out of it not long ago.
    In the main queue what was used since its last turn has another: uses (3 at most) fall by one each turn.
    """

    SMALL = 0.1

    def __init__(self) -> None:
        self._small: deque[Slot] = deque()
        self._main: deque[Slot] = deque()
        self._sizes: dict[bytes, int] = {}
        self._ghosts: OrderedDict[bytes, None] = OrderedDict()
        self._bytes = self._small_bytes = 0

    def add(self, slot: Slot, cost: float, size: int) -> None:
        slot.uses = 0
        self._sizes[slot.key] = size
        self._bytes += size
        if slot.key in self._ghosts:
            del self._ghosts[slot.key]
            self._main.append(slot)
        else:
            self._small.append(slot)
            self._small_bytes += size

    def hit(self, slot: Slot) -> None:
        slot.uses = min(slot.uses + 1, 3)

    def take(self) -> Slot | None:
        slot = self._choose()
        if slot is not None:
            self._bytes -= self._sizes.pop(slot.key)
        return slot

    def _choose(self) -> Slot | None:
        while self._small or self._main:
            if self._small and (self._small_bytes > self.SMALL * self._bytes or not self._main):
                slot = self._small.popleft()
                self._small_bytes -= self._sizes[slot.key]
                if slot.uses > 1:
                    slot.uses = 0
                    self._main.append(slot)
                    continue
                self._ghosts[slot.key] = None
                if len(self._ghosts) > len(self._sizes):
                    self._ghosts.popitem(last=False)
                return slot
            slot = self._main.popleft()
            if not slot.uses:
                return slot
            slot.uses -= 1
            self._main.append(slot)
        return None


class Counters:
    """How often keys were seen lately: a byte for each hash, all halved now and then (TinyLFU's "reset")."""

    HALF = bytes(number // 2 for number in range(256))

    def __init__(self, size: int = 1 << 18) -> None:
        self._counts = bytearray(size)
        self._mask = size - 1
        self._seen = 0

    def of(self, key: bytes) -> int:
        return self._counts[hash(key) & self._mask]

    def add(self, key: bytes, live: int) -> None:
        at = hash(key) & self._mask
        self._counts[at] = min(self._counts[at] + 1, 255)
        self._seen += 1
        if self._seen > 10 * live + 1000:
            self._seen = 0
            self._counts = self._counts.translate(self.HALF)


class WTinyLfu:
    """W-TinyLFU (Einziger, Friedman and Manes, ACM ToS 2017), in bytes.

    A window (LRU, a hundredth); behind it a segmented LRU (four fifths protected). What leaves the window takes the
    place of the oldest on probation only if it was seen more often.
    """

    WINDOW, PROTECTED = 0.01, 0.8

    def __init__(self) -> None:
        self._parts: list[OrderedDict[bytes, Slot]] = [
            OrderedDict() for _ in range(3)
        ]  # window, probation, protected
        self._bytes = [0, 0, 0]
        self._where: dict[bytes, int] = {}
        self._sizes: dict[bytes, int] = {}
        self._counters = Counters()
        self._candidates: deque[Slot] = deque()  # that left the window and have not been compared yet

    def add(self, slot: Slot, cost: float, size: int) -> None:
        self._counters.add(slot.key, len(self._where))
        self._sizes[slot.key] = size
        self._enter(slot, 0)
        while self._bytes[0] > self.WINDOW * sum(self._bytes):
            oldest = next(iter(self._parts[0].values()))
            self._leave(oldest)
            self._enter(oldest, 1)
            self._candidates.append(oldest)

    def _enter(self, slot: Slot, part: int) -> None:
        self._parts[part][slot.key] = slot
        self._bytes[part] += self._sizes[slot.key]
        self._where[slot.key] = part

    def _leave(self, slot: Slot) -> int:
        part = self._where.pop(slot.key)
        del self._parts[part][slot.key]
        self._bytes[part] -= self._sizes[slot.key]
        return part

    def hit(self, slot: Slot) -> None:
        self._counters.add(slot.key, len(self._where))
        part = self._leave(slot)
        self._enter(slot, 2 if part else 0)
        while self._bytes[2] > self.PROTECTED * sum(self._bytes):
            oldest = next(iter(self._parts[2].values()))
            self._leave(oldest)
            self._enter(oldest, 1)

    def take(self) -> Slot | None:
        slot = self._choose()
        if slot is not None:
            self._leave(slot)
            del self._sizes[slot.key]
        return slot

    def _choose(self) -> Slot | None:
        window, probation, protected = self._parts
        victim: Slot | None = next(iter((probation or protected or window).values()), None)
        while victim is not None and self._candidates:
            candidate = self._candidates.popleft()
            if self._where.get(candidate.key) == 1 and candidate is not victim:
                beaten = self._counters.of(candidate.key) <= self._counters.of(victim.key)
                return candidate if beaten else victim
        return victim


class Gdsf:
    """GreedyDual-Size-Frequency (Cherkasova, HPL-98-69, 1998) in a heap; a hit is noted and made good on the way out.

    ::

        rank = L + uses * cost / size            L: the rank of the last one that went
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, bytes, Slot]] = []
        self._floor = 0.0

    def add(self, slot: Slot, cost: float, size: int) -> None:
        slot.worth = cost / size
        slot.due = self._floor + slot.uses * slot.worth
        heapq.heappush(self._heap, (slot.due, slot.key, slot))

    def hit(self, slot: Slot) -> None:
        slot.uses += 1
        slot.due = self._floor + slot.uses * slot.worth

    def take(self) -> Slot | None:
        while self._heap:
            rank, key, slot = self._heap[0]
            if slot.due <= rank:
                self._floor = rank
                return heapq.heappop(self._heap)[2]
            heapq.heapreplace(self._heap, (slot.due, key, slot))
        return None


class GdsfByCount(Gdsf):
    """GDSF with every hit worth the same: for the hit rate alone."""

    def add(self, slot: Slot, cost: float, size: int) -> None:
        super().add(slot, 1.0, size)


class CampBySeconds(Camp):
    """The store's policy with a hit worth the seconds it saves and no more."""

    def add(self, slot: Slot, cost: float, size: int) -> None:
        super().add(slot, cost - HIT, size)


class CampWithPast(Camp):
    """The store's policy, but what went keeps its uses, in a byte a hash, halved every four turnovers."""

    HALF = bytes(number // 2 for number in range(256))

    def __init__(self) -> None:
        super().__init__()
        self._past = bytearray(1 << 17)
        self._went = 0

    def add(self, slot: Slot, cost: float, size: int) -> None:
        slot.uses = 1 + self._past[hash(slot.key) % len(self._past)]
        super().add(slot, cost, size)

    def take(self) -> Slot | None:
        slot = super().take()
        if slot is not None:
            self._past[hash(slot.key) % len(self._past)] = min(slot.uses, 255)
            self._went += 1
            if self._went > 4 * self._alive + 64:
                self._went = 0
                self._past = self._past.translate(self.HALF)
        return slot


POLICIES = {
    "LRU": Lru,
    "S3-FIFO": S3Fifo,
    "W-TinyLFU": WTinyLfu,
    "GDSF": Gdsf,
    "GDSF, cost 1": GdsfByCount,
    "CAMP, HIT 0": CampBySeconds,
    "CAMP with past": CampWithPast,
    "CAMP (ours)": Camp,
}
