"""Requests kept whole for looking at: of each slice of time the slowest ones, and a few at random.

The slowest say what a p99 is made of; the random ones make sure that the percentiles below have neighbours. Which are
random is decided by a number drawn for each request: kept are those with the smallest (a bottom-k sample, Cohen &
Kaplan, PODC 2007). So what is kept of two workers' requests is what one worker would have kept that saw all of them,
in whatever order, and twice the same changes nothing:

::

    pick(pick(A) | pick(B)) = pick(A | B)

Slices of 10 s serve the last five minutes, those of a minute, which the others flow into, the hour. A slice keeps
:data:`SLOWEST` by each of E2E, TTFT and TPOT and :data:`SAMPLE` at random, 32 at the most, and a packed request is
under 1 KiB, as names are cut: an hour takes less than 4 MiB, and a quarter of that as a rule. Of the requests that did
not come out well only the last :data:`ERRORS` are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from heapq import nlargest, nsmallest
from operator import itemgetter
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import msgspec

from hasten.anatomy import segments
from hasten.bodies import Query
from hasten.errors import UnknownRequest
from hasten.measure.alike import Alike
from hasten.measure.latency import MEASURES, WINDOWS, Latency
from hasten.measure.ledger import Sealed
from hasten.trace import Trace

SLOWEST, SAMPLE, ERRORS = 8, 8, 50
_WIDTH, _WIDE = 10, 60  # seconds
_KEPT = {_WIDTH: 30, _WIDE: 60}  # slices
_ID, _NAME, _TEXT = 128, 48, 64  # bytes of UTF-8
_SEGMENTS, _REASONS = 16, 2

#: E2E, TTFT, TPOT in seconds; below 0: it has none.
_Times = tuple[float, float, float]
#: A request of the open slice, with the number drawn.
_Row = tuple[_Times, int, Trace]


class Exemplar(NamedTuple):
    """A request that is kept; ``data`` is :class:`_Told`, packed."""

    times: _Times
    draw: int
    wall: float
    id: str
    tenant: str
    data: bytes


class _Told(msgspec.Struct, array_like=True):
    endpoint: str
    model: str
    served_model: str
    engine: str
    status: int
    error: str | None
    cache: str
    cache_why: str
    route: str
    stream: bool
    attempts: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cost: float | None
    reasons: list[str]
    segments: list[tuple[str, int, int]]  # stage, start, duration; microseconds


class _Slice(NamedTuple):
    picked: list[Exemplar]
    errors: list[Exemplar]


_pack = msgspec.msgpack.Encoder().encode
_told = msgspec.msgpack.Decoder(_Told).decode
_slice = msgspec.msgpack.Decoder(_Slice).decode

_R = TypeVar("_R", bound="_Row | Exemplar")


def pick(rows: Iterable[_R]) -> list[_R]:
    """Return what is kept of ``rows``, which differ."""
    rows = list(rows)
    if len(rows) <= SLOWEST:
        return rows
    chosen: dict[_R, None] = {}
    for place in range(len(MEASURES)):
        slowest = nlargest(SLOWEST, rows, key=lambda row: (row[0][place], row[1]))
        chosen.update((row, None) for row in slowest if row[0][place] >= 0)
    chosen.update((row, None) for row in nsmallest(SAMPLE, rows, key=itemgetter(1)))
    return list(chosen)


def _bars(rows: list[_Row]) -> tuple[float, float, float, int]:
    """Return what times have to be above, or the number drawn below, for a request to be picked beside ``rows``."""

    def bar(place: int) -> float:
        times = sorted([row[0][place] for row in rows])
        return times[-SLOWEST] if len(times) >= SLOWEST else -1.0

    draws = sorted([row[1] for row in rows])
    return bar(0), bar(1), bar(2), draws[SAMPLE - 1] if len(draws) >= SAMPLE else 1 << 32


class Slices:
    """What is kept, by slices; has a ledger's verbs for :class:`~hasten.measure.windows.Keeper`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._open: list[_Row] = []
        self._bars = _bars([])
        self._failed: list[Trace] = []
        self._slots: dict[int, dict[int, list[Exemplar]]] = {_WIDTH: {}, _WIDE: {}}
        self._errors: list[Exemplar] = []
        self._now = {width: int(clock() // width) for width in _KEPT}

    def take(self, requests: Alike) -> None:
        """Keep some of ``requests``."""
        if not requests.well:
            self._failed += requests.traces
            del self._failed[:-ERRORS]
            return
        least_e2e, least_ttft, least_tpot, most = self._bars
        rows = []
        for trace, e2e in zip(requests.traces, requests.e2e, strict=True):
            draw = hash((trace.id, trace.t0)) & 0xFFFFFFFF
            if draw < most or e2e >= least_e2e:
                rows.append((_times(trace), draw, trace))
            elif trace.t_first is not None:
                times = _, ttft, tpot = _times(trace)
                if ttft >= least_ttft or tpot >= least_tpot:
                    rows.append((times, draw, trace))
        if rows:
            self._open = pick(self._open + rows)
            self._bars = _bars(self._open)

    @property
    def reach(self) -> dict[int, int]:
        """By width, the oldest slice that is still of use."""
        return {width: self._now[width] - kept for width, kept in _KEPT.items()}

    def tick(self) -> list[Sealed]:
        """Seal the slices that are over and return them; to be called a few times a second."""
        now = self.clock()
        sealed = []
        for width in _KEPT:
            slot, over = int(now // width), self._now[width]
            if slot == over:
                break
            if width == _WIDTH:
                content = self._opened()
                self._open, self._bars, self._failed = [], _bars([]), []
                if content.picked or content.errors:
                    self._put(width, over, content)
            else:
                content = _Slice(self._slots[width].get(over, []), self._errors)
            if content.picked or content.errors:
                sealed.append(Sealed(width, over, _pack(content)))
            self._now[width] = slot
            slots = self._slots[width]
            for old in [old for old in slots if old < self.reach[width]]:
                del slots[old]
        return sealed

    def hear(self, sealed: Sealed) -> None:
        """Add another worker's slice."""
        if sealed.slot >= self.reach[sealed.width]:
            self._put(sealed.width, sealed.slot, _slice(sealed.data))

    def _put(self, width: int, slot: int, content: _Slice) -> None:
        self._merge(width, slot, content.picked)
        if width == _WIDTH:
            self._merge(_WIDE, slot * _WIDTH // _WIDE, content.picked)
        errors = dict.fromkeys(self._errors + content.errors)
        self._errors = sorted(errors, key=lambda error: error.wall)[-ERRORS:]

    def _merge(self, width: int, slot: int, more: list[Exemplar]) -> None:
        slots = self._slots[width]
        slots[slot] = pick(dict.fromkeys(slots.get(slot, []) + more))

    def _opened(self) -> _Slice:
        """Return what the open slice holds."""
        picked = [self._exemplar(trace, draw) for _, draw, trace in self._open]
        return _Slice(picked, [self._exemplar(trace, 0) for trace in self._failed])

    def _exemplar(self, trace: Trace, draw: int) -> Exemplar:
        told = _Told(
            endpoint=trace.endpoint,
            model=_cut(trace.model),
            served_model=_cut(trace.served_model),
            engine=_cut(trace.engine),
            status=trace.status,
            error=None if trace.error is None else _cut(trace.error),
            cache=trace.cache,
            cache_why=_cut(trace.cache_why, _TEXT),
            route=_cut(trace.way, _TEXT),
            stream=trace.stream,
            attempts=trace.attempts,
            input_tokens=trace.input_tokens,
            output_tokens=trace.output_tokens
            if trace.output_tokens is not None
            else trace.tokens_seen or None,
            cached_tokens=trace.cached_tokens,
            cost=trace.cost,
            reasons=[_cut(reason) for reason in trace.reasons[:_REASONS]],
            segments=[
                (stage, round((start - trace.t0) * 1e6), round((end - start) * 1e6))
                for stage, start, end in segments(trace)[:_SEGMENTS]
            ],
        )
        return Exemplar(
            _times(trace),
            draw,
            trace.wall,
            _cut(trace.id, _ID),
            trace.tenant,  # whole: by it is decided who may see the request
            _pack(told),
        )

    def window(self, seconds: int) -> list[Exemplar]:
        """Return what is kept of the last ``seconds``, and of the open slice."""
        width = _WIDTH if seconds <= _WIDTH * _KEPT[_WIDTH] else _WIDE
        since = self._now[width] - seconds // width
        found = [one for slot, held in self._slots[width].items() if slot >= since for one in held]
        return found + self._opened().picked

    def errors(self) -> list[Exemplar]:
        """Return the last requests that did not come out well."""
        return (self._errors + self._opened().errors)[-ERRORS:]

    def find(self, id: str, tenant: str | None) -> Exemplar | None:
        """Return the ``tenant``'s request of this id, if it is kept: clients choose ids. ``None``: anybody's."""
        kept = self.errors() + self.window(_WIDE * _KEPT[_WIDE]) + self.window(_WIDTH * _KEPT[_WIDTH])
        cut = _cut(id, _ID)
        return next((one for one in kept if one.id == cut and tenant in (None, one.tenant)), None)


class Exemplars:
    """Takes requests, and answers what may be asked about those that are kept."""

    def __init__(self, latency: Latency, clock: Callable[[], float] = monotonic) -> None:
        self.ledger = Slices(clock)
        self._latency = latency

    def take(self, requests: Alike) -> None:
        """Keep some of finished requests, or none."""
        if requests.call:
            self.ledger.take(requests)

    def search(self, query: bytes, tenant: str | None) -> dict[str, Any]:
        """Return the requests of a window that are slowest, or nearest to a percentile, or that failed last; of
        ``tenant``'s those that are kept; how many these are, ``of`` how many of the window (``None``: not known).
        Raises :class:`~hasten.errors.InvalidField`."""
        asked = Query(query, "window", "measure", "near", "limit")
        window = asked.one_of("window", tuple(WINDOWS))
        measure = asked.one_of("measure", MEASURES)
        near = asked.one_of("near", ("slowest", "p50", "p90", "p95", "p99", "errors"))
        limit = asked.number("limit", 20, 1, 100)
        value = of = None
        if near == "errors":
            found = [one for one in reversed(self.ledger.errors()) if tenant in (None, one.tenant)]
        else:
            place = MEASURES.index(measure)
            kept = self.ledger.window(WINDOWS[window])
            found = [one for one in kept if one.times[place] >= 0 and tenant in (None, one.tenant)]
            whose = ("all", "") if tenant is None else ("tenant", tenant)
            seen = self._latency.summary((measure, *whose), WINDOWS[window])
            of = max(len(found), int(seen["n"])) if seen else None  # what is not sealed yet is kept already
            if near == "slowest":
                found.sort(key=lambda one: -one.times[place])
            else:
                value = seen[f"{near}_ms"] if seen else None
                middle = (value or 0.0) / 1e3
                found.sort(key=lambda one: abs(one.times[place] - middle))
        return {
            "measure": measure,
            "window": window,
            "near": near,
            "value_ms": value,
            "kept": len(found),
            "of": of,
            "requests": [_shown(one) for one in found[:limit]],
        }

    def one(self, id: str, tenant: str | None) -> dict[str, Any]:
        """Return a request. Raises :class:`~hasten.errors.UnknownRequest`, also for another tenant's."""
        found = self.ledger.find(id, tenant)
        if found is None:
            raise UnknownRequest(
                f"no request {id[:_ID]!r} is kept: only the slowest, some others and errors are"
            )
        return _shown(found)


def _cut(text: str, most: int = _NAME) -> str:
    return text.encode(errors="replace")[:most].decode(errors="ignore")


def _times(trace: Trace) -> _Times:
    first = trace.t_first
    if first is None:
        return trace.duration, -1.0, -1.0
    tpot = trace.tpot
    return trace.duration, first - trace.t0, -1.0 if tpot is None else tpot


def _shown(one: Exemplar) -> dict[str, Any]:
    told = _told(one.data)
    e2e, ttft, tpot = map(_ms, one.times)
    time = datetime.fromtimestamp(one.wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": one.id,
        "time": time,
        "tenant": one.tenant,
        **msgspec.structs.asdict(told),
        "e2e_ms": e2e,
        "ttft_ms": ttft,
        "tpot_ms": tpot,
        "segments": [(stage, start / 1e3, took / 1e3) for stage, start, took in told.segments],
    }


def _ms(seconds: float) -> float | None:
    return round(seconds * 1e3, 3) if seconds >= 0 else None
