"""Service level objectives of single requests, and goodput."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hasten.bench.record import Record

NAMES = ("ttft", "tpot", "e2e")


class Slo(msgspec.Struct, frozen=True):
    """Upper limits, milliseconds; ``None``: no limit.

    ::

        goodput = requests/s that succeed and meet every limit

    (DistServe, Zhong et al., OSDI 2024.) A request without a first token misses a TTFT limit. One with fewer than
    two tokens has no TPOT and cannot miss its limit.
    """

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None

    def met(self, record: Record) -> bool:
        """Whether ``record`` succeeded within all limits."""
        if record.error is not None:
            return False
        if self.ttft is not None and (record.ttft is None or record.ttft * 1e3 > self.ttft):
            return False
        if self.tpot is not None and record.tpot is not None and record.tpot * 1e3 > self.tpot:
            return False
        return self.e2e is None or record.e2e * 1e3 <= self.e2e

    def goodput(self, records: Iterable[Record], wall: float) -> float:
        """Return the requests/s that meet all limits, over ``wall`` seconds."""
        return sum(map(self.met, records)) / wall if wall > 0 else 0.0


def parse_slo(text: str) -> Slo:
    """Read ``ttft=200,tpot=33,e2e=800`` (milliseconds). Raises :class:`ValueError` with what is wrong."""
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in NAMES:
            raise ValueError(f"unknown limit {name!r}; allowed: {', '.join(NAMES)}")
        try:
            limit = float(value)
        except ValueError:
            limit = 0.0
        if not 0 < limit < float("inf"):
            raise ValueError(f"{name}: expected milliseconds above 0, got {value!r}")
        limits[name] = limit
    return Slo(**limits)
