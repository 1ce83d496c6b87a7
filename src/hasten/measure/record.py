"""One finished request as a flat record: what the request log keeps, and what others are told of it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from hasten.anatomy import parts
from hasten.trace import Trace


class Record(msgspec.Struct, omit_defaults=True):
    """What is told of a request; durations in milliseconds. Nothing of its texts unless asked, no header."""

    time: str
    id: str
    endpoint: str
    status: int
    duration_ms: float
    tenant: str = ""
    model: str = ""
    served_model: str = ""
    engine: str = ""
    stream: bool = False
    attempts: int = 0
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    tokens_estimated: bool = False
    cost: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    cache: str = ""
    cache_why: str = ""
    route: str = ""
    complexity: float | None = None
    side: str = ""
    reasons: list[str] = []
    discarded: list[tuple[str, int, int]] = []
    stages_ms: dict[str, float] = {}
    request: str | None = None
    answer: str | None = None


def record_of(trace: Trace) -> Record:
    """Return the record of ``trace``."""
    ttft, tpot = trace.ttft, trace.tpot
    made = Record(
        time=_clock(trace.wall),
        id=trace.id,
        endpoint=trace.endpoint,
        status=trace.status,
        duration_ms=_ms(trace.duration),
        tenant=trace.tenant,
        model=trace.model if trace.engine else "",
        served_model=trace.served_model if trace.served_model != trace.model else "",
        engine=trace.engine,
        stream=trace.stream,
        attempts=trace.attempts,
        ttft_ms=None if ttft is None else _ms(ttft),
        tpot_ms=None if tpot is None else _ms(tpot),
        input_tokens=trace.input_tokens,
        output_tokens=trace.output_tokens,
        cached_tokens=trace.cached_tokens,
        tokens_estimated=trace.estimated,
        cost=trace.cost,
        finish_reason=trace.finish_reason,
        error=trace.error,
        cache=trace.cache,
        cache_why=trace.cache_why,
        route=trace.way,
        complexity=None if trace.complexity is None else round(trace.complexity, 4),
        side=trace.side,
        reasons=trace.reasons,
        discarded=trace.discarded,
        stages_ms={stage: _ms(seconds) for stage, seconds in parts(trace).items()},
    )
    if trace.transcript is not None:
        made.request, made.answer = trace.transcript.texts()
    return made


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _clock(wall: float) -> str:
    """Return RFC 3339 with milliseconds; the date is worked out once a second."""
    second = int(wall)
    return f"{_second(second)}.{int((wall - second) * 1000):03d}Z"
