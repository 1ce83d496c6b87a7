"""Spans: who is recorded, what arrives of a request, and what is made of it."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from hasten.anatomy import parts
from hasten.measure.otel import frames
from hasten.measure.otel.sampling import Sampler
from hasten.measure.otel.spans import Spans, resource_of
from hasten.trace import Context, EngineCall, Trace

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CLIENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
EPOCH = 1_700_000_000 * 10**9
ENGINES: frames.Engines = {
    "e": ("https://vllm.internal/v1", "Qwen/Qwen3-8B"),
    "d": ("http://[::1]:8000/v1", None),
}


def context(*calls: EngineCall, parent: str = SPAN_ID) -> Context:
    return Context(TRACE_ID, parent, "01", 1000, list(calls))


def finished(**fields: Any) -> Trace:
    """Return a trace of a streamed chat: from 100 to 102 seconds, the first token after half a second."""
    trace = Trace(100.0, "req-1")
    trace.endpoint, trace.status, trace.model, trace.engine, trace.served_model = "chat", 200, "m", "e", "m"
    trace.provider, trace.stream, trace.attempts = "openai", True, 1
    trace.t_first, trace.t_end = 100.5, 102.0
    trace.spans = [("accept", 100.0, 100.1), ("cache", 100.1, 100.2), ("upstream", 100.3, 100.5)]
    trace.context = context(EngineCall("e", "openai", "m", 100.3, 102.0))
    for name, value in fields.items():
        setattr(trace, name, value)
    return trace


def spans(trace: Trace) -> list[ReadableSpan]:
    return list(Spans(trace, EPOCH, ENGINES, resource_of(None, {})))


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else int(span.parent.span_id)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# -- who is recorded


def begun(share: float, parent: str = "", state: str = "") -> Trace:
    trace = Trace()
    trace.parent, trace.state = parent, state
    Sampler(share).begin(trace)
    return trace


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_client_decides(share: float) -> None:
    sampled = begun(share, CLIENT, "a=b")
    assert sampled.context is not None
    assert (sampled.context.trace_id, sampled.context.parent, sampled.context.flags) == (
        TRACE_ID,
        SPAN_ID,
        "01",
    )
    unsampled = begun(share, f"{CLIENT[:-2]}00", "a=b")
    assert unsampled.context is None
    assert unsampled.propagated() == f"traceparent: {CLIENT[:-2]}00\r\ntracestate: a=b\r\n"


def test_engines_hear_of_the_call_to_them() -> None:
    trace = begun(1.0, CLIENT, "a=b")
    assert trace.context is not None
    seen = set()
    for engine in ("d", "e"):
        trace.context.call(engine, "openai", "m")
        told, state, _ = trace.propagated().split("\r\n")
        assert state == "tracestate: a=b"
        version, trace_id, span_id, flags = told.removeprefix("traceparent: ").split("-")
        assert (version, trace_id, flags) == ("00", TRACE_ID, "01")
        seen.add(span_id)
    assert len(seen) == 2
    trace.endpoint, trace.status, trace.t_end = "chat", 200, trace.t0 + 1
    calls = [span for span in spans(trace) if span.kind is SpanKind.CLIENT]
    assert {f"{id_of(call):016x}" for call in calls} == seen


@pytest.mark.parametrize(
    "parent",
    [
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"{CLIENT}-more",
    ],
    ids=["version ff", "no trace", "no span", "more than version 00 has"],
)
def test_a_context_that_means_nothing_begins_a_trace(parent: str) -> None:
    trace = begun(1.0, parent, "a=b")
    assert trace.context is not None
    assert trace.context.trace_id != TRACE_ID
    assert (trace.context.parent, trace.state) == ("", "")


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    trace = begun(0.0, f"cc-{TRACE_ID}-{SPAN_ID}-ff-more")
    assert trace.context is not None
    assert trace.context.traceparent == f"00-{TRACE_ID}-{trace.context.span:016x}-03"


def test_the_share_is_of_traces_and_engines_hear_who_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(0.25)
    sampler._bits = random.Random(1).getrandbits
    recorded = 0
    for _ in range(4000):
        trace = Trace()
        sampler.begin(trace)
        if trace.context is not None:
            recorded += 1
            assert int(trace.context.trace_id[16:], 16) < 2**62  # as OpenTelemetry's own sampler decides
        else:
            assert trace.propagated().endswith("-00\r\n")
            assert int(trace.parent[19:35], 16) >= 2**62
    assert 900 < recorded < 1100


# -- what travels


def test_a_trace_arrives_as_it_was() -> None:
    trace = finished(
        input_tokens=10, output_tokens=0, complexity=0.5, reasons=["d: engine_refused"], discarded=[("s", 3, 4)],
        engine_prefill=0.2, engine_decode=1.4, error="client_gone", finish_reason="stop", state="a=b",
    )  # fmt: skip
    frame = frames.batch([trace, trace], ENGINES)
    assert int.from_bytes(frame[: frames.LENGTH], "little") == len(frame) - frames.LENGTH
    batch = msgspec.msgpack.decode(frame[frames.LENGTH :], type=frames.Batch)
    assert batch.engines == ENGINES
    assert len(batch.records) == 2
    back = frames.trace_of(batch.records[0])
    assert [getattr(back, name) for name in frames.FIELDS] == [
        [list(entry) for entry in value] if name in ("spans", "discarded") else value
        for name in frames.FIELDS
        for value in [getattr(trace, name)]
    ]
    assert parts(back) == parts(trace)


# -- what is made of it


def test_a_request_its_call_and_its_stages() -> None:
    request, call, *stages = spans(
        finished(input_tokens=10, output_tokens=7, cached_tokens=0, finish_reason="stop")
    )
    assert (request.name, request.kind, parent_of(request)) == ("chat m", SpanKind.SERVER, int(SPAN_ID, 16))
    assert (call.name, call.kind, parent_of(call)) == ("chat Qwen/Qwen3-8B", SpanKind.CLIENT, id_of(request))
    assert request.parent is not None
    assert request.parent.is_remote
    assert [(span.name, parent_of(span)) for span in stages] == [
        ("accept", id_of(request)),
        ("cache", id_of(request)),
        ("gateway", id_of(request)),
        ("prefill", id_of(call)),
        ("decode", id_of(call)),
    ]
    every = [request, call, *stages]
    assert len({id_of(span) for span in every}) == len(every)
    assert {span.context.trace_id for span in every if span.context} == {int(TRACE_ID, 16)}
    assert all(span.status.status_code is StatusCode.UNSET for span in every)
    assert attributes(request) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "m",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "hasten.request_id": "req-1",
        "hasten.engine": "e",
        "hasten.attempts": 1,
    }
    assert attributes(call) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "Qwen/Qwen3-8B",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": pytest.approx(0.2),
        "server.address": "vllm.internal",
        "server.port": 443,
        "hasten.engine": "e",
    }


def test_times_are_the_walls() -> None:
    request, call, *stages = spans(finished())
    assert (request.start_time, request.end_time) == (EPOCH + 100 * 10**9, EPOCH + 102 * 10**9)
    assert (call.start_time, call.end_time) == (EPOCH + 100_300_000_000, request.end_time)
    assert stages[0].start_time == request.start_time
    assert stages[-1].end_time == request.end_time
    assert [a.end_time for a in stages[:-1]] == [b.start_time for b in stages[1:]]
    (event,) = request.events
    assert (event.name, event.timestamp) == ("first_token", EPOCH + 100_500_000_000)


def test_an_attempt_that_failed_is_a_call_of_its_own() -> None:
    calls = (
        EngineCall("d", "openai", "m", 100.2, 100.3, "engine_refused"),
        EngineCall("e", "openai", "m", 100.3, 102.0),
    )
    trace = finished(context=context(*calls), attempts=2, reasons=["d: engine_refused"], route="fallback")
    request, failed, call, *_ = spans(trace)
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "engine_refused")
    assert attributes(failed)["error.type"] == "engine_refused"
    assert (attributes(failed)["server.address"], attributes(failed)["server.port"]) == ("::1", 8000)
    assert failed.name == "chat m"  # the engine has no name of its own for it
    assert call.status.status_code is request.status.status_code is StatusCode.UNSET
    assert attributes(request)["hasten.reasons"] == ("d: engine_refused",)
    assert attributes(request)["hasten.route"] == "fallback"


@pytest.mark.parametrize(
    ("fields", "failed"),
    [
        ({"status": 503, "error": "no_engine_available"}, True),
        ({"status": 200, "error": "engine_reset"}, True),
        ({"status": 200, "error": "client_gone"}, False),
        ({"status": 499, "error": "client_gone"}, False),
        ({"status": 400, "error": "bad_request"}, False),
        ({"status": 429, "error": "engine_status"}, False),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_what_is_an_error(fields: dict[str, Any], failed: bool) -> None:
    request = spans(finished(**fields))[0]
    assert (request.status.status_code is StatusCode.ERROR) is failed
    assert attributes(request)["error.type"] == fields["error"]
    assert attributes(request)["http.response.status_code"] == fields["status"]


def test_a_hit_asks_nobody() -> None:
    trace = finished(
        engine="cache", provider="hasten", cache="exact", cache_why="same; stored 3 s ago by e", attempts=0,
        spans=[("accept", 100, 100.1), ("cache", 100.1, 102)], context=context(parent=""), tenant="acme",
    )  # fmt: skip
    request, *stages = spans(trace)
    assert request.parent is None
    assert [(span.name, span.kind) for span in stages] == [
        ("accept", SpanKind.INTERNAL),
        ("cache", SpanKind.INTERNAL),
    ]
    found = attributes(request)
    assert found["gen_ai.provider.name"] == "hasten"
    assert (found["hasten.cache"], found["hasten.tenant"]) == ("exact", "acme")


def test_a_model_that_nobody_serves_is_not_named() -> None:
    trace = finished(
        engine="", served_model="", provider="", model="anything", status=404, error="model_not_found"
    )
    request = spans(trace)[0]
    assert request.name == "chat"
    assert "anything" not in str(attributes(request))


@pytest.mark.parametrize(
    ("given", "environ", "name"),
    [
        (None, {}, "hasten"),
        ("mine", {}, "mine"),
        (None, {"OTEL_SERVICE_NAME": "theirs"}, "theirs"),
        ("mine", {"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}, "mine"),
    ],
)
def test_the_resource(
    given: str | None, environ: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    made = resource_of(given, {"deployment.environment.name": "test"})
    assert made.attributes["service.name"] == name
    assert made.attributes["deployment.environment.name"] == "test"
