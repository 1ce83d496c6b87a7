"""How finished requests travel to the child: frames of MessagePack, each after its length in four bytes.

The first frame is a :class:`Setup`, all others are a :class:`Batch`. What the child has to say it says in lines of
JSON, each a :class:`Told`. Both ends are of one version: there is no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from time import perf_counter_ns, time_ns
from typing import Any

import msgspec

from hasten.settings import Otel
from hasten.trace import Context, Trace

LENGTH = 4  # bytes

#: What a record holds of a trace, in this order; ``context`` comes last.
FIELDS = (
    "t0", "id", "t_first", "t_end", "endpoint", "tenant", "model", "served_model", "engine", "provider",
    "stream", "status", "error", "finish_reason", "input_tokens", "output_tokens", "cached_tokens", "tokens_seen",
    "attempts", "spans", "engine_prefill", "engine_decode", "reasons", "cache", "cache_why", "named", "route",
    "complexity", "side", "discarded", "state", "context",
)  # fmt: skip

_values = attrgetter(*FIELDS)
_encode = msgspec.msgpack.Encoder().encode

#: By engine: its address, and its own name of the model if it has one.
Engines = dict[str, tuple[str | None, str | None]]


class Setup(msgspec.Struct):
    """How to export. ``None``: as the environment says."""

    endpoint: str | None
    headers: dict[str, str]
    service_name: str | None
    attributes: dict[str, str]


class Batch(msgspec.Struct, array_like=True):
    """Some requests. ``epoch``: the wall clock when ``time.perf_counter`` was 0, nanoseconds."""

    epoch: int
    engines: Engines
    records: list[list[Any]]


class Told(msgspec.Struct, omit_defaults=True):
    """What became of requests, from the child."""

    exported: int = 0
    failed: int = 0


def setup(settings: Otel) -> bytes:
    """Return the first frame."""
    headers = {name: value.reveal() for name, value in settings.headers.items()}
    endpoint = settings.endpoint and f"{settings.endpoint.rstrip('/')}/v1/traces"
    return _frame(_encode(Setup(endpoint, headers, settings.service_name, settings.attributes)))


def batch(traces: Iterable[Trace], engines: Engines) -> bytes:
    """Return a frame with finished requests, each of which has a context."""
    epoch = time_ns() - perf_counter_ns()
    return _frame(_encode((epoch, engines, [_values(trace) for trace in traces])))


def trace_of(values: list[Any]) -> Trace:
    """Return a trace that is what the worker's was."""
    trace = Trace(values[0], values[1])
    for name, value in zip(FIELDS[2:-1], values[2:-1], strict=True):
        setattr(trace, name, value)
    trace.context = msgspec.convert(values[-1], Context)
    return trace


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(LENGTH, "little") + data
