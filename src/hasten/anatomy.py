"""Where a request's time went: stages one after the other, from its first byte to the end of its reply.

What the stages noted of themselves is laid out on one line, on which each moment belongs to one stage, so the parts add
up to the whole. What nobody noted is told from where it lies: after the engine was asked and before the first token
it is ``prefill``, after that ``decode``, and all else the gateway's own.

============ ==========================================================================================
accept       reading and checking the request: the network's time and the client's, to send it
queue        waiting in the gateway for a free engine
named        finding a named route
cache        key and look-ups; of hits and coalesced requests also the wait for, and the replay of, the answer
route        score and decision
compress     shortening the prompt
cascade      a weak tier's answer that was heard or held
retry        engines that failed and were passed over
connect      a new connection to the engine
engine_queue at the engine, before it began; only where the engine tells its own times
prefill      to the first token
decode       from there to the end
generate     both: a whole answer of an engine that does not tell its times
client       a stream was held because the client read slowly
gateway      the rest: the gateway's own time between the stages
============ ==========================================================================================
"""

from __future__ import annotations

from operator import itemgetter
from typing import Literal, get_args

from hasten.trace import Trace

Stage = Literal[
    "accept",
    "queue",
    "named",
    "cache",
    "route",
    "compress",
    "cascade",
    "retry",
    "connect",
    "engine_queue",
    "prefill",
    "decode",
    "generate",
    "client",
    "gateway",
]
STAGES: tuple[str, ...] = get_args(Stage)

_start = itemgetter(1)

#: A stage with its begin and its end, ``time.perf_counter`` seconds.
Segment = tuple[str, float, float]


def parts(trace: Trace) -> dict[str, float]:
    """Return the seconds of each stage that took any; they add up to ``trace.duration`` of a finished request."""
    found = trace.parts
    if found is None:
        found = _usual(trace)
        if found is None:
            found = {}
            for stage, start, end in segments(trace):
                took = end - start
                found[stage] = found[stage] + took if stage in found else took
        if trace.t_end is not None:
            trace.parts = found
    return found


def _usual(trace: Trace) -> dict[str, float] | None:
    """Return the parts of most requests in a third of the time: of those that one engine answered at once, and whose
    stages followed each other. ``None`` of all others."""
    end, at = trace.t_end, trace.t0
    if end is None or trace.attempts != 1 or trace.engine == "cache" or trace.engine_prefill is not None:
        return None
    found: dict[str, float] = {}
    gateway = 0.0
    for stage, start, until in trace.spans:
        if start < at or until <= start or stage in found or stage == "cascade":
            return None
        found[stage] = until - start
        gateway += start - at
        at = until
    waited = found.pop("upstream", None)
    if waited is None or at > end:
        return None
    if trace.stream:
        first = trace.t_first
        if first is None or stage != "upstream" or not start < first < end:
            return None
        # The first event may hold no token yet, or be passed on later.
        found["prefill"], found["decode"] = first - start, end - first
    else:
        found["generate"] = waited
        gateway += end - at
    if gateway > 0:
        found["gateway"] = gateway
    return found


def segments(trace: Trace) -> list[Segment]:
    """Return the stages as they followed each other, without gaps; of a request that still runs, what is known."""
    spans = sorted(trace.spans, key=_start)
    first = trace.t_first  # when the first token came from the engine
    calls, held = 0, None
    for stage, start, _ in spans:
        if stage == "upstream":
            calls += 1
            held = None
        elif stage == "cascade" and held is None:
            held = start
    if first is not None and calls and held is not None:
        # A tier's stream that passes was held from its first token on: the client's first one came later.
        first = min(first, held)
    # The line is filled from left to right: ``at`` is how far.
    found: list[Segment] = []
    at, to_come, end = trace.t0, calls, trace.t_end
    for stage, start, until in spans:
        if start > at:
            _rest(found, trace, at, start, first, to_come < calls, calls > 0)
            at = start
        if stage == "upstream":
            to_come -= 1
            if until > at:
                at = _upstream(found, trace, at, until, first, to_come)
        elif until > at:
            # Where it led to no answer, connecting was in vain too.
            found.append(("retry" if stage == "connect" and to_come > 1 else stage, at, until))
            at = until
    if end is not None and end > at:
        # A call that was given up before it ended has left no span; a hit asked nobody, but its reply is a stream.
        asked = bool(calls or trace.attempts) or (trace.stream and trace.engine != "")
        _rest(found, trace, at, end, first, asked, calls > 0)
    return found


def _upstream(
    found: list[Segment], trace: Trace, at: float, end: float, first: float | None, to_come: int
) -> float:
    """Lay out a call to an engine, until its answer was whole or its first event came, and return how far that is;
    more are ``to_come``."""
    if to_come:
        found.append(("retry", at, end))
        return end
    if trace.stream:
        return _wait(found, trace, at, end, first)
    prefill, decode = trace.engine_prefill, trace.engine_decode
    if prefill is None or decode is None:
        found.append(("generate", at, end))
        return end
    # The engine's clock may run otherwise: what it tells has to fit.
    decode = min(decode, end - at)
    prefill = min(prefill, end - decode - at)
    for stage, until in (
        ("engine_queue", end - decode - prefill),
        ("prefill", end - decode),
        ("decode", end),
    ):
        if until > at:
            found.append((stage, at, until))
            at = until
    return at


def _wait(found: list[Segment], trace: Trace, at: float, end: float, first: float | None) -> float:
    """Lay out the wait for a stream's first token, and return how far that is."""
    prefill = trace.engine_prefill
    if first is not None:
        end = min(end, first)
        if prefill is not None and first - prefill > at:
            until = min(end, first - prefill)
            found.append(("engine_queue", at, until))
            at = until
    if end > at:
        found.append(("prefill", at, end))
        at = end
    return at


def _rest(
    found: list[Segment],
    trace: Trace,
    at: float,
    end: float,
    first: float | None,
    asked: bool,
    answered: bool,
) -> None:
    """Lay out what nobody noted, from ``at`` to ``end``."""
    if not asked:
        found.append(("gateway", at, end))
    elif trace.engine == "cache":
        found.append(("cache", at, end))
    elif not trace.stream:
        # After its answer a call has nothing to wait for; one that was given up has no answer.
        found.append(("gateway" if answered else "generate", at, end))
    else:
        if first is None or first > at:
            at = _wait(found, trace, at, end, first)
        if end > at:
            found.append(("decode", at, end))
