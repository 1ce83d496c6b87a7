"""Which entry goes when there is no room."""

from __future__ import annotations

from collections import deque
from math import frexp, inf, ldexp

import msgspec

HIT = 0.5  # seconds that any hit is worth besides those it saves: work that the engine does not have
FEW = 64  # dead slots that are not worth clearing away
DEAD_BYTES = 300  # memory of one


class Slot(msgspec.Struct, gc=False, kw_only=True):
    """A kept entry: what the store needs to know of it unread.

    ``data``: the packed entry; empty once it is gone. ``scope``, ``canonical``: empty for none. ``uses``: how often
    it was of use, its making included. ``worth``, ``due`` and ``rank`` are the policy's.
    """

    key: bytes
    data: bytes
    tenant: str
    scope: bytes
    canonical: bytes
    stale_until: float
    uses: int = 1
    worth: float = 0.0
    due: float = 0.0
    rank: float = 0.0


class Camp:
    """The entry of the lowest rank goes, with the rank of GreedyDual-Size-Frequency (Cherkasova, HPL-98-69, 1998).

    ::

        rank = L + round(uses * (cost + HIT) / size)            cost in seconds, size in bytes

    with ``L`` the rank of the last one that went, so that what is used no more falls behind in time. Rounded up to
    a power of two (CAMP: Ghandeharizadeh et al., Middleware 2014) there are but a few dozen different ones; each has
    a queue, in which ranks grow, so that only the heads are compared. A hit is noted, and its slot given another place
    when it comes up: a hit and an addition take the same time however many slots there are, an eviction too.
    """

    def __init__(self) -> None:
        self._queues: dict[int, deque[Slot]] = {}
        self._floor = 0.0
        self._alive = self._dead = 0
        self._turn = 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory taken by slots that are gone."""
        return self._dead * DEAD_BYTES

    def add(self, slot: Slot, cost: float, size: int) -> None:
        """Take on a slot. ``cost``: seconds that a hit saves; ``size``: bytes that it takes."""
        slot.worth = (cost + HIT) / size
        slot.due = self._floor
        self._alive += 1
        self._enqueue(slot)

    def _enqueue(self, slot: Slot) -> None:
        power = frexp(slot.uses * slot.worth)[1]
        slot.rank = slot.due + ldexp(1.0, power)
        queue = self._queues.get(power)
        if queue is None:
            queue = self._queues[power] = deque()
        queue.append(slot)

    def hit(self, slot: Slot) -> None:
        """Note that a slot was of use."""
        slot.uses += 1
        slot.due = self._floor

    def remove(self, slot: Slot) -> None:
        """Give up a slot: its data now, the slot itself when it comes up."""
        slot.data = slot.scope = slot.canonical = b""
        self._alive -= 1
        self._dead += 1
        if self._dead > FEW and self._dead > self._alive:
            for power, queue in self._queues.items():
                self._queues[power] = deque(each for each in queue if each.data)
            self._dead = 0

    def take(self) -> Slot | None:
        """Take out the slot that has to go and return it; ``None`` if there is none."""
        while True:
            first, lowest = None, inf
            for queue in self._queues.values():
                if queue and queue[0].rank < lowest:
                    first, lowest = queue, queue[0].rank
            if first is None:
                return None
            slot = first.popleft()
            if not slot.data:
                self._dead -= 1
            elif slot.due + ldexp(1.0, frexp(slot.uses * slot.worth)[1]) > lowest:
                self._enqueue(slot)  # it was of use since it was given its place
            else:
                self._floor = max(self._floor, lowest)
                self._alive -= 1
                return slot

    def glance(self) -> Slot | None:
        """Return a slot that has its place for long, of another queue each time, or ``None``."""
        if not self._queues:
            return None
        self._turn = (self._turn + 1) % len(self._queues)
        queue = list(self._queues.values())[self._turn]
        while queue and not queue[0].data:
            queue.popleft()
            self._dead -= 1
        return queue[0] if queue else None
