"""What requests cost and what was saved: it adds up, over requests, workers and models, and never pretends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter, time
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten import config
from hasten.errors import SettingsError
from hasten.measure.cost import FAMILIES, RENEWAL, Cost, anonymous, cost_of, view
from hasten.measure.ledger import OTHER, VALUES
from hasten.measure.registry import Key, Registry
from hasten.settings import Model, Price
from hasten.testing import Script, ScriptedUpstream
from hasten.trace import Trace
from tests.gateway import eventually, gateway

MODELS = {
    "small": Model(engines=("e",), price=Price(input=1, output=2, cached_input=0.5)),
    "large": Model(engines=("e",), price=Price(input=10, output=20)),
    "free": Model(engines=("e",), price=Price()),
    "auto": Model(tiers=("small", "large")),
    "unknown": Model(engines=("e",)),
}


def trace_of(model: str = "small", served: str | None = None, **fields: Any) -> Trace:
    trace = Trace()
    trace.endpoint, trace.engine, trace.status = "chat", "e", 200
    trace.model, trace.served_model = model, model if served is None else served
    trace.input_tokens, trace.output_tokens = 100, 10
    for name, value in fields.items():
        setattr(trace, name, value)
    return trace


def costs(path: Path | None = None) -> tuple[Cost, Registry]:
    registry = Registry(FAMILIES, path)
    made = Cost(registry)
    made.configure(MODELS)
    return made, registry


def shown(*traces: Trace, tenant: str | None = None) -> dict[str, Any]:
    made, registry = costs()
    for trace in traces:
        made.record(trace)
    return view(registry.collect(), tenant)


def millionths(page: dict[str, Any]) -> tuple[float, ...]:
    """Return what was spent, the baseline, and what the cache and routing saved, in millionths."""
    values = (page["spent"], page["baseline"], page["saved"]["cache"], page["saved"]["routing"])
    return tuple(round(value * 1e6, 6) for value in values)


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (trace_of(), (120, 120, 0, 0)),
        (trace_of(cached_tokens=40), (100, 100, 0, 0)),
        (trace_of(cached_tokens=4000), (70, 70, 0, 0)),  # an engine that counts strangely
        (trace_of("large", cached_tokens=40), (1200, 1200, 0, 0)),  # no price of its own
        (trace_of("free"), (0, 0, 0, 0)),
        (trace_of("auto", "small"), (120, 1200, 0, 1080)),
        (trace_of("auto", "large"), (1200, 1200, 0, 0)),
        (trace_of("small", "large"), (1200, 120, 0, -1080)),  # a fallback, or led to by a named route
        (trace_of("auto", "large", discarded=[("small", 100, 5)]), (1310, 1200, 0, -110)),
        (trace_of(engine="cache"), (0, 120, 120, 0)),
        (trace_of(engine="cache", cached_tokens=40), (0, 120, 120, 0)),
        (trace_of("auto", "small", engine="cache"), (0, 1200, 120, 1080)),
        (trace_of(cache=RENEWAL), (120, 0, -120, 0)),
        (trace_of(output_tokens=None), (100, 100, 0, 0)),  # an embedding
        (trace_of(input_tokens=None, output_tokens=None, status=502), (0, 0, 0, 0)),
        (trace_of(engine=""), (0, 0, 0, 0)),
        (
            trace_of("auto", "large", input_tokens=None, output_tokens=None, discarded=[("small", 100, 5)]),
            (110, 0, 0, -110),
        ),
    ],
)
def test_what_a_request_cost(trace: Trace, expected: tuple[float, ...]) -> None:
    assert millionths(shown(trace)) == expected
    if trace.cost is not None:
        assert trace.cost * 1e6 == pytest.approx(expected[0])


def test_no_use_has_no_cost() -> None:
    failed = trace_of(input_tokens=None, output_tokens=None)
    assert shown(failed)["models"] == {}
    assert failed.cost is None


@pytest.mark.parametrize(
    ("trace", "spent", "named", "cost"),
    [
        (trace_of("unknown"), 0, "unknown", None),
        (trace_of("unknown", engine="cache"), 0, "unknown", 0.0),
        (trace_of("unknown", "small"), 120, "unknown", 120e-6),
        (trace_of("small", "unknown"), 0, "unknown", None),
        (trace_of("auto", "large", discarded=[("gone", 100, 5)]), 1200, "gone", None),
        (trace_of("gone", "small", engine="cache"), 0, "gone", 0.0),
    ],
)
def test_without_a_price_nothing_is_said_to_be_saved(
    trace: Trace, spent: float, named: str, cost: float | None
) -> None:
    page = shown(trace)
    assert millionths(page) == (spent, spent, 0, 0)
    assert page["unpriced"] == {named: 1}
    assert trace.cost == (None if cost is None else pytest.approx(cost))


def test_a_listener_hears_of_a_cost_once() -> None:
    heard: list[float] = []
    trace = trace_of(on_cost=heard.append)
    shown(trace)
    shown(trace, trace_of("unknown", on_cost=heard.append))
    assert heard == [pytest.approx(120e-6)]


NAMES = st.sampled_from([*MODELS, "gone"])
PRICED = st.sampled_from(["small", "large", "free", "auto"])
COUNTS = st.integers(0, 10**6)


@st.composite
def traces(draw: st.DrawFn, asked: st.SearchStrategy[str] = PRICED) -> Trace:
    used = st.tuples(st.sampled_from(["small", "large"]), COUNTS, COUNTS)
    return trace_of(
        draw(asked),
        draw(asked.filter(lambda name: name != "auto")),
        input_tokens=draw(st.none() | COUNTS),
        output_tokens=draw(st.none() | COUNTS),
        cached_tokens=draw(st.none() | COUNTS),
        engine=draw(st.sampled_from(["e", "cache", ""])),
        cache=draw(st.sampled_from(["", "miss", RENEWAL])),
        tenant=draw(st.sampled_from(["", "acme", "beta"])),
        estimated=draw(st.booleans()),
        discarded=draw(st.lists(used, max_size=2)),
    )


@given(st.lists(traces(NAMES), max_size=8))
def test_spent_and_saved_are_the_baseline(given: list[Trace]) -> None:
    page = shown(*given)
    saved = page["saved"]
    assert page["spent"] + saved["total"] == pytest.approx(page["baseline"], abs=1e-9)
    assert saved["cache"] + saved["routing"] == pytest.approx(saved["total"], abs=1e-9)
    for rows in (page["models"], page["tenants"]):
        for column in ("spent", "baseline"):
            assert sum(row[column] for row in rows.values()) == pytest.approx(page[column], abs=1e-9)


@given(st.lists(traces(), max_size=8))
def test_costs_of_requests_add_up(given: list[Trace]) -> None:
    pages = [shown(trace) for trace in given]
    for column in ("spent", "baseline", "estimated_tokens"):
        assert sum(page[column] for page in pages) == pytest.approx(shown(*given)[column], abs=1e-9)
    own = {name: shown(*given, tenant=name) for name in ("", "acme", "beta")}
    everybody = shown(*given)
    assert sum(page["spent"] for page in own.values()) == pytest.approx(everybody["spent"], abs=1e-9)
    by_cache = sum(page["saved"]["cache"] for page in own.values())
    assert by_cache == pytest.approx(everybody["saved"]["cache"], abs=1e-9)


def test_the_price_of_cached_tokens() -> None:
    assert cost_of(Price(input=10, output=20), 100, 50, 1) == pytest.approx(1020e-6)
    assert cost_of(Price(input=10, output=20, cached_input=0), 100, 50, 1) == pytest.approx(520e-6)
    settings = {"engines": {"e": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}}}
    price = {"input": 1, "cached_input": 2}
    with pytest.raises(SettingsError) as caught:
        config.build({**settings, "models": {"m": {"engines": ["e"], "price": price}}}, environ={})
    assert caught.value.problems == [
        "models.m.price.cached_input: expected from 0 to at most price.input (1), not 2:"
        " tokens from the engine's cache cost no more than others"
    ]


def test_counts_of_workers_are_added_up(tmp_path: Path) -> None:
    made = [costs(tmp_path / f"{i}.slots") for i in range(3)]
    for cost, _ in made:
        cost.record(trace_of("auto", "small", tenant="acme"))
    for _, registry in made:
        assert millionths(view(registry.collect(), None)) == (360, 3600, 0, 3240)
    for _, registry in made:
        registry.close()


def test_tenants_are_bounded_and_hidden() -> None:
    made, registry = costs()
    for i in range(VALUES + 5):
        made.record(trace_of("auto", "small", tenant=f"t{i}"))
    series = registry.collect()
    page = view(series, None)
    assert len(page["tenants"]) == VALUES + 1
    assert page["tenants"][OTHER]["requests"] == 5
    open_to_all = anonymous(series)
    key: Key = ("hasten_cost_total", ("small", ""))
    assert [k for k in open_to_all if k[0] == "hasten_cost_total"] == [key]
    assert open_to_all[key][0] == pytest.approx(page["spent"])
    assert view(open_to_all, None)["saved"] == pytest.approx(page["saved"])


def test_it_takes_microseconds() -> None:
    made, _ = costs()
    trace = trace_of("auto", "small", tenant="acme", cached_tokens=40)
    best = 1.0
    for _ in range(10):
        since = perf_counter()
        for _ in range(1000):
            made.record(trace)
        best = min(best, (perf_counter() - since) / 1000)
    print(f"{best * 1e6:.2f} us a request")
    assert best < 40e-6


# -- through the gateway


async def test_the_page_and_the_metrics() -> None:
    price = {"input": 1, "output": 2, "cached_input": 0.5}
    async with (
        ScriptedUpstream() as up,
        gateway(
            up,
            models={"m": {"engines": ["e0"], "price": price}},
            cache={"semantic": False},
            server={"admin_keys": ["boss"]},
            tenants={"acme": {"keys": ["k-acme"]}, "beta": {"keys": ["k-beta"]}},
        ) as gw,
    ):
        for key in ("k-acme", "k-acme", "k-beta"):
            await gw.chat(headers={"x-api-key": key})
        page = (await gw.http.get("/admin/cost", headers={"x-api-key": "boss"})).json()
        assert millionths(page) == (48, 72, 24, 0)
        row = {"requests": 3, "input": 20, "output": 14, "cached": 0}
        assert row.items() <= page["models"]["m"].items()
        assert set(page["tenants"]) == {"acme", "beta"}
        assert page["tenants"]["acme"]["baseline"] == pytest.approx(48e-6)
        assert (page["currency"], page["unpriced"], page["estimated_tokens"]) == ("", {}, 0)
        assert (await gw.http.get("/admin/cost", headers={"x-api-key": "k-acme"})).status_code == 403
        assert 'hasten_cost_requests_total{model="m",tenant=""} 3' in await gw.metrics()
        boss = (await gw.http.get("/metrics", headers={"x-api-key": "boss"})).text
        assert 'hasten_cost_requests_total{model="m",tenant="acme"} 2' in boss


async def test_without_admin_keys_each_tenant_sees_its_own() -> None:
    tenants = {"acme": {"keys": ["k-acme"]}, "beta": {"keys": ["k-beta"]}}
    models = {"m": {"engines": ["e0"], "price": {"output": 1}}}
    async with ScriptedUpstream() as up, gateway(up, tenants=tenants, models=models) as gw:
        for key in ("k-acme", "k-beta", "k-beta"):
            await gw.chat(headers={"x-api-key": key})
        page = (await gw.http.get("/admin/cost", headers={"x-api-key": "k-acme"})).json()
        assert page["spent"] == pytest.approx(7e-6)
        assert set(page["tenants"]) == {"acme"}


async def test_a_renewal_is_paid_for_by_what_the_cache_saved() -> None:
    models = {"m": {"engines": ["e0"], "price": {"output": 1}}}
    cache = {"semantic": False, "ttl": 10, "stale": 1000}
    async with ScriptedUpstream() as up, gateway(up, models=models, cache=cache) as gw:
        await gw.chat()
        stage = gw.worker.app.cache
        assert stage is not None
        stage._clock = lambda: time() + 100
        assert (await gw.chat()).headers["x-hasten-cache"] == "exact"
        await eventually(lambda: len(up.requests) == 2 and not stage._renewing)
        await eventually(lambda: view(gw.worker.metrics.series(), None)["models"]["m"]["output"] == 14)
        page = (await gw.http.get("/admin/cost")).json()
        assert millionths(page) == (14, 14, 0, 0)
        assert page["models"]["m"]["requests"] == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_outlives_its_client_is_paid_for_once(stream: bool) -> None:
    models = {"m": {"engines": ["e0"], "price": {"output": 1}}}
    script = Script(itl=0.05, ttft=0.2 if stream else 1.0)
    async with ScriptedUpstream(script) as up, gateway(up, models=models, cache={"semantic": False}) as gw:
        leader = asyncio.create_task(gw.chat(stream=stream))
        await eventually(lambda: len(up.requests) == 1)
        async with httpx.AsyncClient(base_url=gw.url, timeout=30, trust_env=False) as http:
            question = {"role": "user", "content": "What is the capital of France?"}
            body = {"model": "m", "stream": stream, "messages": [question]}
            follower = asyncio.create_task(http.post("/v1/chat/completions", json=body))
            await asyncio.sleep(0.3)
            leader.cancel()
            assert (await follower).headers["x-hasten-cache"] == "coalesced"
        (gone,) = (await gw.http.get("/admin/requests?near=errors")).json()["requests"]
        assert (gone["status"], gone["error"]) == (200 if stream else 499, "client_gone")
        page = (await gw.http.get("/admin/cost")).json()
        assert len(up.requests) == 1
        assert page["spent"] == page["baseline"] > 0
        assert page["saved"]["total"] == 0


@pytest.mark.parametrize("absurd", [2**70, 10**400, -1])
async def test_what_cannot_be_a_count_is_not_counted(absurd: int) -> None:
    usage = {"prompt_tokens": absurd, "completion_tokens": absurd}
    timings = {"prompt_ms": absurd, "predicted_ms": absurd, "cache_n": absurd}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
    answer = msgspec.json.encode({"choices": [choice], "usage": usage, "timings": timings}).decode()
    async with ScriptedUpstream(Script(body=answer)) as up, gateway(up) as gw:
        assert (await gw.chat()).status_code == 200
        page = (await gw.http.get("/admin/cost")).json()
        assert page["models"]["m"]["output"] < 1000
