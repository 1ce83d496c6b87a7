"""Spans reach a collector, and no collector, whatever it does, is felt by a request."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hasten import config
from hasten.errors import SettingsError
from hasten.measure.otel import frames
from hasten.measure.otel.exporting import MOST, Exporting
from hasten.measure.otel.sampling import Sampler
from hasten.process.otel_child import COMPLAIN, Seldom
from hasten.testing import FakeClock, Script, ScriptedUpstream
from tests.collector import Collector, plain
from tests.gateway import Gateway, eventually, gateway
from tests.measure.test_otel import CLIENT, ENGINES, SPAN_ID, TRACE_ID, finished
from tests.process.test_serve import ASK, config_text, served
from tests.route.cascades import cascading, script

WITHIN = 30.0  # seconds for a process to start and send: far more than it takes


def counts(gw: Gateway) -> dict[str, float]:
    metrics = gw.worker.metrics
    found = {"exported": metrics.gauge("hasten_otel_exported_total").value}
    for reason in ("slow", "down", "failed"):
        found[reason] = metrics.gauge("hasten_otel_dropped_total", reason).value
    return found


def child_of(gw: Gateway) -> int:
    exporter = gw.worker._otel
    assert exporter is not None
    return exporter._process.pid if exporter._process is not None else 0


async def slowest(gw: Gateway, count: int) -> float:
    """Return the longest time that one of ``count`` chats took, seconds."""
    most = 0.0
    for _ in range(count):
        since = time.perf_counter()
        assert (await gw.chat()).status_code == 200
        most = max(most, time.perf_counter() - since)
    return most


# -- what arrives


async def test_spans_arrive_with_their_attributes_and_the_engine_is_told_of_the_call() -> None:
    with Collector() as collector:
        otel = {
            "endpoint": f"{collector.endpoint}/",
            "headers": {"X-Token": "sesame"},
            "service_name": "front",
            "attributes": {"deployment.environment.name": "test"},
        }
        async with ScriptedUpstream() as up, gateway(up, otel=otel) as gw:
            headers = {"traceparent": CLIENT, "tracestate": "vendor=1"}
            await gw.chat(stream=True, stream_options={"include_usage": True}, headers=headers)
            await gw.chat(headers={"traceparent": f"{CLIENT[:-2]}00"})
            up.script = Script(status=500)
            assert (await gw.chat()).status_code >= 500
            await gw.http.get("/v1/models")
            await eventually(lambda: counts(gw)["exported"] == 2, WITHIN)
            assert "hasten_otel_exported_total 2" in await gw.metrics()
    streamed, failed = collector.requests()
    assert collector.headers[0]["x-token"] == "sesame"
    assert collector.resources[0].items() >= {"service.name": "front", **otel["attributes"]}.items()  # type: ignore[dict-item]

    assert (streamed.trace_id.hex(), streamed.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert (streamed.name, streamed.trace_state) == ("chat m", "vendor=1")
    assert (
        plain(streamed.attributes).items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 7,
            "http.response.status_code": 200,
        }.items()
    )
    assert plain(streamed.attributes)["gen_ai.response.finish_reasons"] == ["stop"]
    below = {span.name: span for span in collector.spans if span.trace_id == streamed.trace_id}
    (call,) = [span for span in below.values() if span.kind == Span.SPAN_KIND_CLIENT and span is not streamed]
    assert call.parent_span_id == streamed.span_id
    assert {"accept", "prefill", "decode"} <= set(below)
    assert below["decode"].parent_span_id == call.span_id
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert not failed.parent_span_id

    told, unsampled, own = (request.headers for request in up.requests[:3])
    assert told["traceparent"] == f"00-{TRACE_ID}-{call.span_id.hex()}-01"
    assert told["tracestate"] == "vendor=1"
    assert unsampled["traceparent"] == f"{CLIENT[:-2]}00"
    assert own["traceparent"].split("-")[1] == failed.trace_id.hex()


async def test_without_the_section_the_clients_context_is_passed_on_unchanged() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        await gw.chat(headers={"traceparent": CLIENT, "tracestate": "vendor=1"})
        await gw.chat(headers={"traceparent": "nonsense", "tracestate": "vendor=1"})
        await gw.chat(headers={"traceparent": CLIENT, "tracestate": "x" * 513})
    first, second, third = (request.headers for request in up.requests)
    assert (first["traceparent"], first["tracestate"]) == (CLIENT, "vendor=1")
    assert not {"traceparent", "tracestate"} & set(second)
    assert (third["traceparent"], third.get("tracestate")) == (CLIENT, None)


async def test_the_httpx_client_tells_engines_too() -> None:
    engine = {"client": "httpx"}
    with Collector() as collector:
        otel = {"endpoint": collector.endpoint}
        async with ScriptedUpstream() as up, gateway(up, engine=engine, otel=otel) as gw:
            await gw.chat(headers={"traceparent": CLIENT, "tracestate": "vendor=1"})
            await eventually(lambda: counts(gw)["exported"] == 1, WITHIN)
    told = up.requests[0].headers
    assert told["tracestate"] == "vendor=1"
    assert told["traceparent"].startswith(f"00-{TRACE_ID}-")
    calls = [span.span_id.hex() for span in collector.spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert calls == [told["traceparent"].split("-")[2]]


async def test_both_tiers_of_a_cascade_are_calls_of_one_request() -> None:
    async with cascading(script("I", " cannot", " help"), script("Paris")) as cascade:
        noted: list[Any] = []
        server = cascade.gw.worker.server
        on_finish = server.on_finish

        def keep(trace: Any) -> None:
            noted.append(trace)
            on_finish(trace)

        server.on_begin, server.on_finish = Sampler(1.0).begin, keep
        await cascade.ask()
    (trace,) = noted
    assert [(call.engine, call.error) for call in trace.context.calls] == [("weak", None), ("strong", None)]
    assert all(call.end is not None for call in trace.context.calls)


# -- what cannot be felt


async def test_a_collector_that_is_down_or_refuses_is_counted_and_not_felt() -> None:
    with Collector(status=400) as collector:
        async with ScriptedUpstream() as up, gateway(up, otel={"endpoint": collector.endpoint}) as gw:
            assert await slowest(gw, 20) < 2
            await eventually(lambda: counts(gw)["failed"] == 20, WITHIN)
            collector.status = 200
            await slowest(gw, 3)
            await eventually(lambda: counts(gw)["exported"] == 3, WITHIN)


async def test_a_frozen_collector_is_not_felt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    with Collector(frozen=True) as collector:
        otel = {"endpoint": collector.endpoint, "max_pending": 10}
        async with ScriptedUpstream() as up, gateway(up, otel=otel) as gw:
            await eventually(lambda: child_of(gw) != 0, WITHIN)
            assert await slowest(gw, 30) < 2
            await eventually(lambda: counts(gw)["slow"] > 0, WITHIN)
            await eventually(lambda: counts(gw)["failed"] > 0, WITHIN)
            before = time.perf_counter()
        assert time.perf_counter() - before < 10  # nor at the end


async def test_a_child_that_is_killed_is_started_again() -> None:
    with Collector() as collector:
        async with ScriptedUpstream() as up, gateway(up, otel={"endpoint": collector.endpoint}) as gw:
            await slowest(gw, 1)
            await eventually(lambda: counts(gw)["exported"] == 1, WITHIN)
            first = child_of(gw)
            os.kill(first, signal.SIGSTOP)  # so that it has what it cannot tell of
            await slowest(gw, 5)
            exporter = gw.worker._otel
            assert exporter is not None
            await eventually(lambda: exporter._sent == 5)
            os.kill(first, signal.SIGKILL)
            await eventually(lambda: counts(gw)["down"] == 5, WITHIN)
            await slowest(gw, 2)
            await eventually(lambda: counts(gw)["exported"] == 3, WITHIN)
            assert child_of(gw) not in (0, first)


async def test_a_child_that_takes_nothing_is_not_felt() -> None:
    with Collector() as collector:
        otel = {"endpoint": collector.endpoint, "max_pending": 200}
        async with ScriptedUpstream() as up, gateway(up, otel=otel) as gw:
            await eventually(lambda: child_of(gw) != 0, WITHIN)
            os.kill(child_of(gw), signal.SIGSTOP)
            assert await slowest(gw, 300) < 2
            await eventually(lambda: counts(gw)["slow"] >= 100)
            os.kill(child_of(gw), signal.SIGCONT)
            await eventually(lambda: counts(gw)["exported"] == 200, WITHIN)


async def test_what_cannot_be_encoded_or_understood_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> bytes:
        raise OverflowError("too large")

    with Collector() as collector:
        async with ScriptedUpstream() as up, gateway(up, otel={"endpoint": collector.endpoint}) as gw:
            with monkeypatch.context() as broken:
                broken.setattr(frames, "batch", fail)
                await gw.chat()
                await eventually(lambda: counts(gw)["failed"] == 1, WITHIN)
            exporter, first = gw.worker._otel, child_of(gw)
            assert exporter is not None
            assert exporter._sent == 0
            with monkeypatch.context() as broken:
                broken.setattr("hasten.process.otel._decode_told", lambda line: msgspec.json.decode(b"{"))
                await gw.chat()
                await eventually(lambda: counts(gw)["down"] == 1, WITHIN)
            await gw.chat()
            await eventually(lambda: counts(gw)["exported"] == 1, WITHIN)
            assert child_of(gw) not in (0, first)


# -- settings


async def test_a_reload_changes_the_collector() -> None:
    with Collector() as one, Collector() as two:
        async with ScriptedUpstream() as up, gateway(up, otel={"endpoint": one.endpoint}) as gw:
            tree: dict[str, Any] = {
                "engines": {"e0": {"kind": "openai", "base_url": up.base_url}},
                "models": {"m": {"engines": ["e0"]}},
                "cache": {"exact": False, "semantic": False, "coalesce": False},
                "server": {"port": 0},
                "log": {"access": False},
            }
            await gw.chat()
            await eventually(lambda: counts(gw)["exported"] == 1, WITHIN)
            exporter = gw.worker._otel
            gw.worker.reload(config.build({**tree, "otel": {"endpoint": one.endpoint}}, environ={}))
            assert gw.worker._otel is exporter
            gw.worker.reload(config.build({**tree, "otel": {"endpoint": two.endpoint}}, environ={}))
            await gw.chat()
            await eventually(lambda: counts(gw)["exported"] == 2, WITHIN)
            assert (len(one.requests()), len(two.requests())) == (1, 1)
            gw.worker.reload(config.build(tree, environ={}))
            await gw.chat()
            assert "traceparent" not in up.requests[-1].headers


@pytest.mark.parametrize(
    ("otel", "problem"),
    [
        ({"endpoint": "collector:4317"}, "otel.endpoint: expected http://host[:port] or https://host[:port]"),
        (
            {"endpoint": "http://u:p@c:4318"},
            "otel.endpoint: must have no user, query or fragment; use headers",
        ),
        ({"endpoint": "http://c:4318/v1/traces"}, "otel.endpoint: leave out /v1/traces, which is appended"),
        ({"headers": {"a b": "x"}}, "otel.headers.a b: header names and values must be one line of ASCII"),
        ({"attributes": {"service.name": "x"}}, "otel.attributes.service.name: use service_name"),
        ({"sample": 1.5}, "otel.sample: expected float <= 1.0"),
        ({"sampel": 1.0}, "otel.sampel: unknown key; did you mean 'sample'?"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_named(otel: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        config.build({"otel": otel}, environ={})
    assert any(text.startswith(problem) for text in caught.value.problems), caught.value.problems


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.util.find_spec", find)
    with pytest.raises(SettingsError) as caught:
        config.build({"otel": {}}, environ={})
    assert "otel: OpenTelemetry is not installed: pip install 'hasten[otel]'" in caught.value.problems


def test_secrets_are_not_shown() -> None:
    settings = config.build(
        {
            "otel": {"headers": {"authorization": "env:TOKEN"}},
            "engines": {"e": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}},
            "models": {"m": {"engines": ["e"]}},
        },
        environ={"TOKEN": "hidden"},
    )
    assert settings.otel is not None
    assert "hidden" not in repr(settings.otel)
    assert b"hidden" in frames.setup(settings.otel)


# -- the processes


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs /proc")
async def test_the_child_ends_with_the_gateway_and_sends_what_it_has(tmp_path: Path) -> None:
    async with ScriptedUpstream() as up:
        with Collector() as collector:
            text = config_text(up) + f"otel: {{endpoint: '{collector.endpoint}'}}\n"
            async with served(tmp_path, text) as gw, gw.client() as http:
                assert (await http.post("/v1/chat/completions", json=ASK)).status_code == 200
                async with asyncio.timeout(WITHIN):
                    while "hasten_otel_exported_total 1" not in (await http.get("/metrics")).text:
                        await asyncio.sleep(0.05)
                (child,) = children(gw.process.pid)
                before = read_by(child)  # it has told of the first, and now only waits
                assert (await http.post("/v1/chat/completions", json=ASK)).status_code == 200
                await eventually(lambda: read_by(child) > before, WITHIN)
                os.kill(child, signal.SIGTERM)  # as a service manager does to all
                gw.process.kill()
                await gw.ended()
                await eventually(lambda: not alive(child), WITHIN)
            assert len(collector.requests()) == 2


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def read_by(pid: int) -> int:
    """Return how many bytes the process has read."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def exporting(exporter: Any, told: list[frames.Told]) -> Exporting:
    return Exporting(frames.Setup(None, {}, None, {}), exporter, told.append)


def test_spans_are_sent_in_batches_and_told_of_by_request() -> None:
    memory, told = InMemorySpanExporter(), list[frames.Told]()
    work = exporting(memory, told)
    for _ in range(2):
        work.queue.put(frames.batch([finished() for _ in range(100)], ENGINES)[frames.LENGTH :])
    work.queue.put(None)
    work.run()
    assert len(memory.get_finished_spans()) == 200 * 7
    assert sum(one.exported for one in told) == 200
    assert max(one.exported for one in told) == -(-MOST // 7)


def test_what_fails_is_told_of() -> None:
    class Failing(InMemorySpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.FAILURE

    told = list[frames.Told]()
    work = exporting(Failing(), told)
    work.queue.put(frames.batch([finished()], ENGINES)[frames.LENGTH :])
    work.queue.put(None)
    work.run()
    assert told == [frames.Told(failed=1)]


def test_one_line_a_minute_tells_of_a_collector_that_fails() -> None:
    clock = FakeClock()
    seldom = Seldom(clock)

    def passes(name: str, level: int) -> bool:
        return seldom.filter(logging.LogRecord(name, level, "", 0, "", None, None))

    exporter = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    assert [passes(exporter, logging.WARNING), passes(exporter, logging.ERROR)] == [False, True]
    assert not passes(exporter, logging.ERROR)
    clock.advance(COMPLAIN)
    assert passes(exporter, logging.ERROR)
    assert passes("hasten", logging.WARNING)
