"""The last hour as points, one each five seconds, for charts: what the window of a minute showed when each was taken.

A point is taken a little after its slice has ended, when the other workers' counts are in, so all workers have nearly
the same ones; but a worker that is started anew has those since its start. Values are kept as the JSON they are shown
as: an hour of them is put together in a fraction of a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time

import msgspec

from hasten.anatomy import STAGES
from hasten.measure.latency import MEASURES, Latency
from hasten.measure.slo import Slo
from hasten.measure.traffic import Traffic

EVERY = 5  # seconds between two points; the width of the narrowest slices
POINTS = 720
SETTLE = 2.0  # seconds after a slice's end, when all workers have heard of it
_WINDOW, _SECONDS = "1m", 60
_SHOWN = ("p50", "p95", "p99")
_HITS = ("exact", "semantic")
_PLAIN = ("t", "per_second", "errors", "hits", "goodput")
_COLUMNS = (*_PLAIN, *(f"{measure} {shown}" for measure in MEASURES for shown in _SHOWN))
_NOTHING, _ZERO = b"null", b"0.0"

Point = dict[str, float | None]


class History:
    """One worker's points. ``clock``: seconds, the ledgers'; ``wall``: seconds since 1970."""

    def __init__(
        self,
        latency: Latency,
        traffic: Traffic,
        slo: Slo,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
    ) -> None:
        self._latency = latency
        self._traffic = traffic
        self._slo = slo
        self._clock = clock
        self._wall = wall
        #: Columns of equal length by name; a stage's is added when it first occurs.
        self._columns: dict[str, list[bytes]] = {name: [] for name in _COLUMNS}
        self._slot = self._now()
        self._encoded: msgspec.Raw | None = None

    def _now(self) -> int:
        return int((self._clock() - SETTLE) // EVERY)

    def tick(self) -> None:
        """Take a point if it is time; to be called a few times a second."""
        slot = self._now()
        if slot == self._slot:
            return
        self._slot = slot
        point = self._point()
        point["t"] = round(self._wall() - (self._clock() - slot * EVERY))
        for name in point:
            if name not in self._columns:
                self._columns[name] = [_NOTHING] * len(self._columns["t"])
        absent = _NOTHING if point["e2e p50"] is None else _ZERO
        for name, column in self._columns.items():
            column.append(msgspec.json.encode(point[name]) if name in point else absent)
            del column[:-POINTS]
        self._encoded = None

    def _point(self) -> Point:
        counts = self._traffic.view(_SECONDS)
        requests, outcomes = counts["requests"], counts["outcomes"]
        seen = sum(outcomes.values()) - outcomes.get("bypass", 0)
        point: Point = {
            "per_second": counts["per_second"],
            "errors": _share(counts["errors"], requests),
            "hits": _share(sum(outcomes.get(name, 0) for name in _HITS), seen),
            "goodput": self._slo.goodput(_WINDOW),
        }
        for measure in MEASURES:
            times = self._latency.summary((measure, "all", ""), _SECONDS) or {}
            point |= {f"{measure} {shown}": times.get(f"{shown}_ms") for shown in _SHOWN}
        return point | {f"parts {stage}": took for stage, took in counts["parts_ms"].items()}

    def view(self) -> msgspec.Raw:
        """Return the points as JSON, as columns, oldest first; ``null`` where nothing was seen. Made once a point."""
        if self._encoded is None:
            columns = {
                name: msgspec.Raw(b"[%b]" % b",".join(values)) for name, values in self._columns.items()
            }
            shown = {
                **{name: columns[name] for name in _PLAIN},
                **{measure: {at: columns[f"{measure} {at}"] for at in _SHOWN} for measure in MEASURES},
                "parts": {
                    stage: columns[f"parts {stage}"] for stage in STAGES if f"parts {stage}" in columns
                },
            }
            self._encoded = msgspec.Raw(msgspec.json.encode(shown))
        return self._encoded


def _share(some: int, of: int) -> float | None:
    return round(some / of, 4) if of else None
