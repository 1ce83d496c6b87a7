"""The last routed requests, for whoever judges an answer later.

A fixed table that all workers of one machine map, so that any of them can be told of an answer that another one gave,
and nothing grows. A request is known by a digest of its tenant and its id: nobody can judge another tenant's answers.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import NamedTuple

SLOTS = 1 << 15  # 1 MiB; of the last 10,000 requests fewer than 1 in 500 gave way early
WAYS = 8  # places that one request may have; the oldest of them gives way
UNKNOWN = 255  # the level of an answer by none of the tiers
_SLOT = Struct("<16sQfBBBB")  # digest, milliseconds of the clock (0: empty), then as Served
_SIDES = ("act", "holdback", "off", "")


class Served(NamedTuple):
    """A routed request. ``name``: its routed name's place; ``level``: the tier's that answered; ``score``: unlearnt.

    ``side``: empty where the client chose the tier. ``marks``: :data:`JUDGED`, :data:`TAUGHT`.
    """

    name: int
    level: int
    side: str
    score: float
    marks: int = 0


JUDGED, TAUGHT = 1, 2


class Recent:
    """(Tenant, id) to :class:`Served`. ``path``: the file that workers share; ``None``: this worker's own."""

    def __init__(self, clock: Callable[[], float], path: Path | None = None) -> None:
        self._clock = clock
        size = SLOTS * _SLOT.size
        if path is None:
            self._map = mmap.mmap(-1, size)
        else:
            with path.open("a+b") as file:
                file.truncate(size)
                self._map = mmap.mmap(file.fileno(), size)

    def put(self, tenant: str, id: str, served: Served) -> None:
        """Remember a request. Two workers at one place at once: one of the two is forgotten."""
        wanted = _digest(tenant, id)
        oldest, place = 1 << 64, -1
        for at in self._places(wanted):
            found, when, *_ = _SLOT.unpack_from(self._map, at)
            if found == wanted:
                place = at
                break
            if when < oldest:
                oldest, place = when, at
        now = max(1, int(self._clock() * 1e3))
        side = _SIDES.index(served.side)
        _SLOT.pack_into(
            self._map, place, wanted, now, served.score, served.name, served.level, side, served.marks
        )

    def get(self, tenant: str, id: str) -> Served | None:
        """Return what is known of a request, ``None`` for an unknown one."""
        wanted = _digest(tenant, id)
        for at in self._places(wanted):
            found, when, score, name, level, side, marks = _SLOT.unpack_from(self._map, at)
            if when and found == wanted:
                return Served(name, level, _SIDES[side], score, marks)
        return None

    def _places(self, wanted: bytes) -> range:
        bucket = int.from_bytes(wanted[:4], "little") % (SLOTS // WAYS) * WAYS * _SLOT.size
        return range(bucket, bucket + WAYS * _SLOT.size, _SLOT.size)

    def close(self) -> None:
        """Let go of the table."""
        self._map.close()

    def __repr__(self) -> str:
        return f"<Recent {SLOTS} slots>"


def _digest(tenant: str, id: str) -> bytes:
    return blake2b(f"{tenant}\0{id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
