"""Percentiles by dimension: what counts, who sees what, and that Prometheus can read it."""

from __future__ import annotations

from typing import Any

import pytest

from hasten.measure.latency import COMBINATIONS, Latency
from hasten.measure.metrics import Metrics
from hasten.testing import FakeClock, Script, ScriptedUpstream
from hasten.trace import Trace
from tests.gateway import gateway
from tests.measure.taking import take
from tests.measure.test_metrics import parse


def finished(e2e: float = 1.0, ttft: float | None = None, **fields: Any) -> Trace:
    """Return a trace of a request that took ``e2e`` seconds."""
    trace = Trace(100.0)
    trace.endpoint, trace.status, trace.model, trace.engine, trace.served_model = "chat", 200, "m", "e", "m"
    trace.t_end = 100.0 + e2e
    if ttft is not None:
        trace.t_first, trace.t_last, trace.output_tokens = 100.0 + ttft, trace.t_end, 11
    for name, value in fields.items():
        setattr(trace, name, value)
    return trace


def settle(latency: Latency, clock: FakeClock, seconds: float = 5) -> None:
    for _ in latency.fold():
        pass
    clock.advance(seconds)
    latency.ledger.tick()


def rows(latency: Latency, tenant: str | None = None, window: str = "1m") -> dict[tuple[str, str], Any]:
    shown = latency.view(tenant)["windows"][window]
    return {(row["dimension"], row["value"]): row for row in shown}


def test_each_dimension_stands_alone() -> None:
    clock = FakeClock()
    latency = Latency(clock)
    take(latency, finished(0.5, 0.2, cache="miss", tenant="acme"))
    take(latency, finished(0.001, engine="cache", cache="exact", tenant="beta"))
    take(latency, finished(2.0, served_model="large", route="needs tools"))
    settle(latency, clock)
    found = rows(latency)
    assert {place: row["e2e"]["n"] for place, row in found.items()} == {
        ("all", ""): 3,
        ("model", "m"): 3,
        ("engine", "e"): 2,
        ("engine", "cache"): 1,
        ("cache", "miss"): 1,
        ("cache", "exact"): 1,
        ("tenant", "acme"): 1,
        ("tenant", "beta"): 1,
        ("route", "large/needs"): 1,
    }
    acme = found["tenant", "acme"]
    assert acme["e2e"]["p50_ms"] == pytest.approx(500, rel=0.01)
    assert acme["ttft"]["p99.9_ms"] == pytest.approx(200, rel=0.01)
    assert acme["tpot"]["p95_ms"] == pytest.approx(30, rel=0.01)
    assert "ttft" not in found["tenant", "beta"]
    assert list(rows(latency, "acme")) == [("tenant", "acme")]
    assert rows(latency, "nobody") == {}


def test_what_failed_is_not_fast() -> None:
    clock = FakeClock()
    latency = Latency(clock)
    for fields in (
        {"error": "engine_reset"},  # in the stream
        {"status": 429},
        {"status": 499, "error": "client_gone"},
        {"endpoint": "metrics"},
    ):
        take(latency, finished(**fields))
    settle(latency, clock)
    assert rows(latency) == {}


def test_much_is_spread_bit_by_bit() -> None:
    clock = FakeClock()
    latency = Latency(clock)
    many = 2 * COMBINATIONS + 1
    for i in range(3 * many):
        take(latency, finished(tenant=f"t{i % many}"))
    steps = latency.fold()
    next(steps)
    take(latency, finished(tenant="later"))
    assert len(list(steps)) == 2
    settle(latency, clock)
    assert rows(latency)["all", ""]["e2e"]["n"] == 3 * many + 1


async def test_prometheus_reads_the_gauges_and_no_tenants_without_a_key() -> None:
    clock = FakeClock(1020.0)
    metrics = Metrics()
    latency = metrics.latency
    latency.ledger = Latency(clock).ledger
    empty = parse_names(metrics.page())
    assert not empty & {"hasten_latency_seconds", "hasten_latency_values"}  # the heads only
    for i in range(100):
        metrics.record(finished(0.01 * (i + 1), tenant='a"b'))
    metrics.flush()
    settle(latency, clock)
    samples = parse(metrics.page(admin=True))
    labels = {("measure", "e2e"), ("dimension", "tenant"), ("value", 'a"b'), ("window", "1m")}
    p95 = samples["hasten_latency_seconds", frozenset(labels | {("quantile", "0.95")})]
    assert p95 == pytest.approx(0.9505, rel=0.01)
    assert samples["hasten_latency_values", frozenset(labels)] == 100
    assert not any(("dimension", "tenant") in labels for _, labels in parse(metrics.page()))
    settle(latency, clock, 70)
    windows = {dict(labels).get("window") for name, labels in parse(metrics.page()) if "latency" in name}
    assert windows == {"5m", "1h"}


def parse_names(page: bytes) -> set[str]:
    return {name for name, _ in parse(page)}


async def test_over_http() -> None:
    async with (
        ScriptedUpstream(Script(tokens=("a", "b", "c"))) as up,
        gateway(
            up,
            server={"admin_keys": ["boss"]},
            tenants={"acme": {"keys": ["k-acme"]}, "beta": {"keys": ["k-beta"]}},
        ) as gw,
    ):
        clock = FakeClock()
        gw.worker.metrics.latency.ledger = Latency(clock).ledger
        for key in ("k-acme", "k-beta"):
            await gw.chat(stream=True, headers={"authorization": f"Bearer {key}"})
        gw.worker.metrics.flush()
        settle(gw.worker.metrics.latency, clock)

        async def get(path: str, key: str) -> Any:
            return await gw.http.get(path, headers={"x-api-key": key})

        shown = (await get("/admin/latency", "boss")).json()
        assert shown["relative_error"] == 0.01
        values = {(row["dimension"], row["value"]) for row in shown["windows"]["1m"]}
        tenants = {("tenant", "acme"), ("tenant", "beta")}
        assert values == {("all", ""), ("model", "m"), ("engine", "e0")} | tenants
        assert (await get("/admin/latency", "k-acme")).status_code == 403
        assert 'value="acme"' in (await get("/metrics", "boss")).text
        for key in ("k-acme", "wrong", ""):
            answer = await get("/metrics", key)
            assert answer.status_code == 200
            assert 'value="m"' in answer.text
            assert "acme" not in answer.text


async def test_without_admin_keys_each_tenant_sees_its_own() -> None:
    async with (
        ScriptedUpstream() as up,
        gateway(up, tenants={"acme": {"keys": ["k-acme"]}, "beta": {"keys": ["k-beta"]}}) as gw,
    ):
        clock = FakeClock()
        gw.worker.metrics.latency.ledger = Latency(clock).ledger
        for key in ("k-acme", "k-beta"):
            await gw.chat(headers={"authorization": f"Bearer {key}"})
        gw.worker.metrics.flush()
        settle(gw.worker.metrics.latency, clock)
        shown = (await gw.http.get("/admin/latency", headers={"x-api-key": "k-beta"})).json()
        found = [(row["dimension"], row["value"]) for row in shown["windows"]["1m"]]
        assert found == [("tenant", "beta")]
        assert (await gw.http.get("/admin/latency")).status_code == 401
