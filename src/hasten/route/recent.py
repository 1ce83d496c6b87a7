"""The last routed requests, for whoever judges an answer later.

A fixed table that all workers of one machine map, so that any of them can be told of an answer that another one gave,
and nothing grows. A request is known by a digest of its tenant and its id: nobody can judge another tenant's answers.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from hasten.route.table import mapped

SLOTS = 1 << 15  # 1.1 MiB; of the last 10,000 requests fewer than 1 in 500 gave way early
WAYS = 8  # places that one request may have; the oldest of them gives way
UNKNOWN = 255  # the level of an answer by none of the tiers
_SLOT = Struct("<16sQfIBBBx")  # digest, milliseconds of the clock (0: empty), then as Served
_TIMES = Struct("<" + "16xQ12x" * WAYS)  # the times alone, of one request's places
_SIDES = ("act", "holdback", "off", "")


class Served(NamedTuple):
    """A routed request. ``name``: a number for the routed name with its tiers; ``level``: the place of the tier that
    answered; ``score``: unlearnt.

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
        self._map = mapped(SLOTS * _SLOT.size, path)

    def put(self, tenant: str, id: str, served: Served) -> None:
        """Remember a request. Two workers at one place at once: one of the two is forgotten."""
        wanted = _digest(tenant, id)
        bucket = _bucket(wanted)
        place = self._find(wanted, bucket)
        if place is None:
            times = _TIMES.unpack_from(self._map, bucket)
            place = bucket + times.index(min(times)) * _SLOT.size
        now = max(1, int(self._clock() * 1e3))
        name, level, side, score, marks = served
        _SLOT.pack_into(self._map, place, wanted, now, score, name, level, _SIDES.index(side), marks)

    def get(self, tenant: str, id: str) -> Served | None:
        """Return what is known of a request, ``None`` for an unknown one."""
        wanted = _digest(tenant, id)
        place = self._find(wanted, _bucket(wanted))
        if place is None:
            return None
        _, _, score, name, level, side, marks = _SLOT.unpack_from(self._map, place)
        return Served(name, level, _SIDES[side], score, marks)

    def _find(self, wanted: bytes, bucket: int) -> int | None:
        """Return where the request of a digest is."""
        end = bucket + WAYS * _SLOT.size
        at = self._map.find(wanted, bucket, end)
        while at >= 0 and (at - bucket) % _SLOT.size:  # by a rare chance, across two fields
            at = self._map.find(wanted, at + 1, end)
        return at if at >= 0 else None

    def close(self) -> None:
        """Let go of the table."""
        self._map.close()

    def __repr__(self) -> str:
        return f"<Recent {SLOTS} slots>"


def _bucket(wanted: bytes) -> int:
    """Return where the places of a digest begin."""
    return int.from_bytes(wanted[:4], "little") % (SLOTS // WAYS) * WAYS * _SLOT.size


def _digest(tenant: str, id: str) -> bytes:
    return blake2b(f"{tenant}\0{id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
