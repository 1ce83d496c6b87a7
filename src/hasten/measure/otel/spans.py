"""From a finished request to OpenTelemetry's spans, with its SDK's classes. Needs the extra ``otel``.

======================== ======== ========================================================================
span                     kind     its parent
======================== ======== ========================================================================
the request              SERVER   the client's span, if it sent one
a call to an engine      CLIENT   the request
a stage (``anatomy``)    INTERNAL the call, where it is a part of one, else the request
======================== ======== ========================================================================

Names of attributes: OpenTelemetry's semantic conventions for generative AI and for HTTP; what these do not know is
``hasten.*``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from hasten import __version__
from hasten.anatomy import segments
from hasten.errors import ClientGone
from hasten.measure.families import OPERATIONS
from hasten.measure.otel.frames import Engines
from hasten.trace import Context, EngineCall, Trace

_SCOPE = InstrumentationScope("hasten", __version__)
_PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}
#: Stages that can be a part of a call to an engine.
_AT_ENGINE = frozenset(("connect", "engine_queue", "prefill", "decode", "generate", "client"))

Attributes = dict[str, Any]


class Spans:
    """The spans of one finished request. ``epoch``: see :class:`hasten.measure.otel.frames.Batch`."""

    def __init__(self, trace: Trace, epoch: int, engines: Engines, resource: Resource) -> None:
        assert trace.context is not None
        assert trace.t_end is not None
        self._trace = trace
        self._context: Context = trace.context
        self._end = trace.t_end
        self._epoch = epoch
        self._engines = engines
        self._resource = resource
        self._trace_id = int(self._context.trace_id, 16)
        self._flags = TraceFlags(int(self._context.flags, 16))
        self._state = TraceState.from_header([trace.state]) if trace.state else TraceState()

    def __iter__(self) -> Iterator[ReadableSpan]:
        trace, calls = self._trace, self._context.calls
        yield self._request()
        for number, call in enumerate(calls, 1):
            yield self._call(number, call)
        for number, (stage, start, end) in enumerate(segments(trace), len(calls) + 1):
            parent = self._call_of(start, end) if stage in _AT_ENGINE else 0
            yield self._span(stage, SpanKind.INTERNAL, number, parent, start, end, {})

    def _request(self) -> ReadableSpan:
        trace = self._trace
        name = operation = OPERATIONS.get(trace.endpoint, trace.endpoint)
        if trace.engine:  # a name that no engine has is anybody's text
            name = f"{operation} {trace.model}"
        events = []
        if trace.t_first is not None:
            events.append(Event("first_token", timestamp=self._time(trace.t_first)))
        # Not where the fault is the client's: with a 4xx, or when it left.
        failed = None if 400 <= trace.status < 500 or trace.error == ClientGone.code else trace.error
        return ReadableSpan(
            name,
            self._id(0),
            parent=self._client(),
            resource=self._resource,
            instrumentation_scope=_SCOPE,
            kind=SpanKind.SERVER,
            start_time=self._time(trace.t0),
            end_time=self._time(self._end),
            attributes=self._attributes(operation),
            events=events,
            status=_status(failed),
        )

    def _attributes(self, operation: str) -> Attributes:
        """Return what is known of the request. Its tokens are on this span only, so that sums count them once."""
        trace = self._trace
        output = trace.output_tokens if trace.output_tokens is not None else trace.tokens_seen
        given: Attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": trace.provider or "hasten",
            "gen_ai.request.model": trace.model if trace.engine else None,
            "gen_ai.request.stream": trace.stream,
            "gen_ai.response.model": trace.served_model,
            "gen_ai.response.finish_reasons": trace.finish_reason and (trace.finish_reason,),
            "gen_ai.response.time_to_first_chunk": trace.ttft,
            "gen_ai.usage.input_tokens": trace.input_tokens,
            "gen_ai.usage.output_tokens": output or None,
            "gen_ai.usage.cache_read.input_tokens": trace.cached_tokens,
            "http.request.method": "POST",
            "http.route": _PATHS.get(trace.endpoint),
            "http.response.status_code": trace.status,
            "error.type": trace.error,
            "hasten.request_id": trace.id,
            "hasten.tenant": trace.tenant,
            "hasten.engine": trace.engine,
            "hasten.attempts": trace.attempts,
            "hasten.cache": trace.cache,
            "hasten.cache_why": trace.cache_why,
            "hasten.route": trace.way,
            "hasten.complexity": trace.complexity,
            "hasten.side": trace.side,
            "hasten.reasons": tuple(trace.reasons),
        }
        if trace.discarded:
            given["hasten.discarded.input_tokens"] = sum(given for _, given, _ in trace.discarded)
            given["hasten.discarded.output_tokens"] = sum(said for _, _, said in trace.discarded)
        return _known(given)

    def _call(self, number: int, call: EngineCall) -> ReadableSpan:
        trace = self._trace
        operation = OPERATIONS.get(trace.endpoint, trace.endpoint)
        base_url, own = self._engines.get(call.engine) or (None, None)
        host, port = _address(base_url) if base_url else (None, None)
        end = self._call_end(call)
        first = trace.t_first
        given = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": call.provider,
            "gen_ai.request.model": own or call.model,
            "gen_ai.request.stream": trace.stream,
            "gen_ai.response.time_to_first_chunk": (
                first - call.start if first is not None and call.start <= first <= end else None
            ),
            "server.address": host,
            "server.port": port,
            "error.type": call.error,
            "hasten.engine": call.engine,
        }
        name = f"{operation} {own or call.model}"
        failed = None if call.error == ClientGone.code else call.error
        return self._span(name, SpanKind.CLIENT, number, 0, call.start, end, _known(given), failed)

    def _call_end(self, call: EngineCall) -> float:
        return self._end if call.end is None else max(call.start, min(call.end, self._end))

    def _call_of(self, start: float, end: float) -> int:
        """Return the number of the last begun call that a stage is a part of, or 0.

        Its middle decides: where both begin or end together, they are not noted at the same instant.
        """
        middle, calls = (start + end) / 2, self._context.calls
        for number in range(len(calls), 0, -1):
            if calls[number - 1].start <= middle <= self._call_end(calls[number - 1]):
                return number
        return 0

    def _span(
        self,
        name: str,
        kind: SpanKind,
        number: int,
        parent: int,
        start: float,
        end: float,
        attributes: Attributes,
        failed: str | None = None,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            self._id(number),
            parent=self._id(parent),
            resource=self._resource,
            instrumentation_scope=_SCOPE,
            kind=kind,
            start_time=self._time(start),
            end_time=self._time(end),
            attributes=attributes,
            status=_status(failed),
        )

    def _id(self, number: int) -> SpanContext:
        span = self._context.span + number
        return SpanContext(self._trace_id, span, False, self._flags, self._state)

    def _client(self) -> SpanContext | None:
        if not self._context.parent:
            return None
        return SpanContext(self._trace_id, int(self._context.parent, 16), True, self._flags, self._state)

    def _time(self, at: float) -> int:
        """Return a moment of ``time.perf_counter`` as nanoseconds of Unix time."""
        return self._epoch + round(at * 1e9)


def resource_of(service_name: str | None, attributes: dict[str, str]) -> Resource:
    """Return what all spans are of. The environment's ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES`` count too."""
    given = {"service.version": __version__, **attributes}
    if service_name is not None:
        given["service.name"] = service_name
    made = Resource.create(given)
    if str(made.attributes.get("service.name", "")).startswith("unknown_service"):
        made = made.merge(Resource({"service.name": "hasten"}))
    return made


def _known(given: Attributes) -> Attributes:
    """Return the attributes that say something."""
    return {k: v for k, v in given.items() if not (v is None or v is False or v in ("", ()))}


def _status(failed: str | None) -> Status:
    return Status(StatusCode.UNSET) if failed is None else Status(StatusCode.ERROR, failed)


@lru_cache
def _address(base_url: str) -> tuple[str, int]:
    url = urlsplit(base_url)
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
