"""Latency budgets: what a request has left, who overspent, and what is left out when nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hasten import config
from hasten.anatomy import STAGES, parts
from hasten.budget import NO_BUDGET, Budgets, budgets_of, skipped
from hasten.cache.stage import CacheStage
from hasten.cache.store.guard import Guard
from hasten.errors import SettingsError
from hasten.measure.ledger import Ledger
from hasten.route.named import NamedStage
from hasten.settings import Slo
from hasten.testing import FakeClock, FakeEngine, Script, ScriptedUpstream
from hasten.trace import Trace
from hasten.types import Request
from tests.cache.parts import TREE, Counts, request
from tests.cache.semantics import Rig
from tests.cache.test_edges import ASKED, STORED, Engine
from tests.gateway import Gateway, gateway
from tests.measure.test_slo import START, run
from tests.route.test_named import PARCEL, Embedder
from tests.route.test_stage import EASY, HARD, two

AMPLE = 3.6e6  # milliseconds
SPENT = {"accept": 10, "named": 10, "cache": 10, "route": 10}  # where accept took seconds

STAGE = st.sampled_from(STAGES)
SPANS = st.lists(st.tuples(STAGE, st.floats(0, 5)), max_size=8)
GIVEN = st.dictionaries(STAGE, st.floats(0.1, 5000), min_size=1)


def budgets(now: float = 100.0, **budget_ms: float) -> Budgets:
    return Budgets(msgspec.convert({"budget_ms": budget_ms}, Slo), FakeClock(now))


def traced(*took: tuple[str, float]) -> Trace:
    """Return a trace whose stages followed each other from 0 on."""
    trace, at = Trace(t0=0.0), 0.0
    for stage, seconds in took:
        trace.spans.append((stage, at, at + seconds))
        at += seconds
    return trace


# -- the account


def test_what_is_left() -> None:
    made = budgets(now=10.0, accept=20, cache=10, route=3)
    # A stage without a budget is not limited; one with a budget has its own before anything was taken.
    assert made.left(traced(), "named", since=0.0) == inf
    assert made.left(traced(), "cache", since=10.0) == pytest.approx(0.010)
    # What accept did not need is there for the cache; the named routes' time is nobody's.
    saved = traced(("accept", 0.015), ("named", 5.0))
    assert made.left(saved, "cache", since=10.0) == pytest.approx(0.015)
    # What was overspent is missing, in all stages to come.
    late = traced(("accept", 0.034), ("named", 5.0))
    assert made.left(late, "cache", since=10.0) == pytest.approx(-0.004)
    late.spans.append(("cache", 0.0, 0.001))
    assert made.left(late, "route", since=10.0) == pytest.approx(-0.002)  # -14 + 9 + 3
    # A stage that runs has spent the time since it began, and its budget is its own once.
    assert made.left(traced(), "cache", since=9.996) == pytest.approx(0.006)
    assert made.left(traced(("cache", 0.001)), "cache", since=9.996) == pytest.approx(0.005)


def test_only_budgeted_time_counts() -> None:
    made = budgets(cache=10)
    slow = traced(("accept", 30.0), ("named", 30.0))
    assert made.left(slow, "cache", since=100.0) == pytest.approx(0.010)


@given(given_ms=GIVEN, spans=SPANS, stage=STAGE, ran=st.floats(0, 5))
def test_nothing_is_lost(
    given_ms: dict[str, float], spans: list[tuple[str, float]], stage: str, ran: float
) -> None:
    """What is left and what was taken are all that was paid in."""
    left = budgets(**given_ms).left(traced(*spans), stage, since=100.0 - ran)
    if stage not in given_ms:
        assert left == inf
        return
    paid = sum(ms for other, ms in given_ms.items() if other == stage or other in dict(spans))
    taken = ran + sum(seconds for other, seconds in spans if other in given_ms)
    assert left + taken == pytest.approx(paid / 1e3, abs=1e-9)


@given(given_ms=GIVEN, spans=SPANS, others=SPANS, stage=STAGE)
def test_stages_without_a_budget_change_nothing(
    given_ms: dict[str, float], spans: list[tuple[str, float]], others: list[tuple[str, float]], stage: str
) -> None:
    made = budgets(**given_ms)
    more = [*spans, *(other for other in others if other[0] not in given_ms)]
    assert made.left(traced(*more), stage, 100.0) == pytest.approx(made.left(traced(*spans), stage, 100.0))


@given(given_ms=GIVEN, spans=SPANS, stage=STAGE, more=st.floats(0, 5))
def test_more_time_taken_never_leaves_more(
    given_ms: dict[str, float], spans: list[tuple[str, float]], stage: str, more: float
) -> None:
    made = budgets(**given_ms)
    slower = [(other, seconds + more) for other, seconds in spans]
    assert made.left(traced(*slower), stage, 100.0) <= made.left(traced(*spans), stage, 100.0) + 1e-9
    if stage in given_ms:
        richer = budgets(**{**given_ms, stage: given_ms[stage] + more})
        assert richer.left(traced(*spans), stage, 100.0) >= made.left(traced(*spans), stage, 100.0)


# -- who overspent


def judged(made: Budgets, trace: Trace) -> dict[str, bool]:
    stages = [stage for stage in parts(trace) if made.judges(stage, trace.cache)]
    return {stage: made.overspent(trace, stage) for stage in stages}


def test_who_overspent() -> None:
    made = budgets(accept=20, cache=10, route=3, decode=1000)
    trace = traced(("accept", 0.021), ("named", 4.0), ("cache", 0.009))
    trace.t_end = 4.1
    assert judged(made, trace) == {"accept": True, "cache": False}
    waited = traced(("accept", 0.001), ("cache", 4.0))
    waited.t_end, waited.cache = 4.001, "coalesced"
    assert judged(made, waited) == {"accept": False}


def test_who_was_stopped_at_its_budget_has_not_overspent_what_the_timer_was_late() -> None:
    made, counts = budgets(named=5, cache=10), Counts()
    stopped = traced(("named", 0.0052), ("cache", 0.0107))
    stopped.t_end = 0.0159
    assert judged(made, stopped) == {"named": True, "cache": True}
    skipped(stopped, "cache", counts)
    assert judged(made, stopped) == {"named": True, "cache": False}
    held_up = traced(("cache", 0.0151))
    held_up.t_end = 0.0151
    skipped(held_up, "cache", counts)
    assert judged(made, held_up) == {"cache": True}


def test_a_skip_is_counted_once_a_request() -> None:
    counts, trace = Counts(), Trace()
    for _ in range(2):
        skipped(trace, "cache", counts)
    skipped(trace, "route", counts)
    assert trace.reasons == ["cache: no budget left", "route: no budget left"]
    assert counts.seen == {("hasten_budget_skipped_total", stage): 1 for stage in ("cache", "route")}


# -- settings


def test_settings() -> None:
    slo = config.build({**TREE, "slo": {"budget_ms": {"cache": 10, "named": 2.5}}}, environ={}).slo
    made = budgets_of(slo)
    assert made is not None
    assert made.seconds == {"cache": 0.01, "named": 0.0025}
    assert budgets_of(Slo(errors=0.1)) is None


def test_settings_that_are_wrong() -> None:
    wrong = {"cache": 0, "cahce": 5, "route": "x", "named": 3, "zzz": 1}
    with pytest.raises(SettingsError) as caught:
        config.build({**TREE, "slo": {"budget_ms": wrong}}, environ={})
    assert caught.value.problems == [
        "slo.budget_ms.cache: expected float > 0.0",
        f"slo.budget_ms.cahce: unknown key; did you mean 'cache'? Allowed: {', '.join(STAGES)}",
        "slo.budget_ms.route: expected float, got str",
        f"slo.budget_ms.zzz: unknown key. Allowed: {', '.join(STAGES)}",
    ]


# -- the cache


def late(asked: Request, seconds: float = 5.0) -> Request:
    """Have a request's first stage taken ``seconds``."""
    asked.trace.spans.append(("accept", asked.trace.t0 - seconds, asked.trace.t0))
    return asked


def stage_of(rig: Rig, **budget_ms: float) -> CacheStage:
    tree = {**TREE, "cache": {"semantic": False}, "slo": {"budget_ms": budget_ms}}
    given = config.build(tree, environ={})
    return CacheStage(given, rig.store, rig.cache, rig.counts, rig.report, clock=rig.clock)


def asking(text: str) -> Request:
    return request(messages=[{"role": "user", "content": text}])


async def test_without_a_budget_no_model_is_asked_but_what_is_in_memory_is() -> None:
    async with Rig(otherwise=9.0) as rig:
        stage, engine = stage_of(rig, **SPENT), Engine()
        await stage(asking(STORED), engine)
        asked = late(asking(ASKED))
        await stage(asked, engine)
        assert (asked.trace.cache, asked.trace.cache_why) == ("miss", NO_BUDGET)
        assert asked.trace.reasons == ["cache: no budget left"]
        assert rig.counts.seen["hasten_budget_skipped_total", "cache"] == 1
        assert rig.counts.seen["hasten_cache_bypassed_total", "budget"] == 1
        for text, how in ((STORED, "exact"), (f"{STORED}?", "semantic")):
            again = late(asking(text))
            await stage(again, engine)
            assert (again.trace.cache, again.trace.reasons) == (how, [])
        again = asking(ASKED)  # its answer was kept all the same
        await stage(again, engine)
        assert again.trace.cache == "exact"
        await stage.close()


async def test_what_is_left_limits_a_look_up() -> None:
    async with Rig(otherwise=9.0, timeout=30.0) as rig:
        stage, engine = stage_of(rig, cache=50), Engine()
        await stage(asking(STORED), engine)
        rig.go.clear()
        asked = asking(ASKED)
        await stage(asked, engine)
        assert (asked.trace.cache, asked.trace.cache_why) == ("miss", NO_BUDGET)
        assert rig.counts.seen["hasten_cache_bypassed_total", "semantic_timeout"] == 0
        rig.go.set()
        stage = stage_of(rig, accept=SPENT["accept"], cache=AMPLE)
        asked = late(asking(ASKED + " please tell me"))
        await stage(asked, engine)
        assert asked.trace.cache == "semantic"
        await stage.close()


class SlowStore:
    """Stands in for a store's reads: counts them, and lets them hang."""

    def __init__(self, worker: Any) -> None:
        store = worker.app.cache.store
        assert isinstance(store, Guard)
        self.reads = 0
        self.hang = False
        self._get = store._store.get
        store._store.get = self  # type: ignore[method-assign]

    async def __call__(self, key: bytes) -> Any:
        self.reads += 1
        if self.hang:
            await asyncio.sleep(3600)
        return await self._get(key)


async def slowly(gw: Gateway, seconds: float = 0.1, **fields: Any) -> Any:
    """Send a chat whose last byte comes later."""
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields})

    async def parts() -> AsyncIterator[bytes]:
        yield body[:-1]
        await asyncio.sleep(seconds)
        yield body[-1:]

    headers = {"content-length": str(len(body)), "content-type": "application/json"}
    return await gw.http.post("/v1/chat/completions", content=parts(), headers=headers)


async def test_a_store_is_not_waited_for_without_a_budget(tmp_path: Path) -> None:
    cache = {"store": "disk", "path": str(tmp_path / "c.db"), "semantic": False, "store_timeout": 10}
    async with ScriptedUpstream() as up, gateway(up, cache=cache, slo={"budget_ms": SPENT}) as gw:
        store = SlowStore(gw.worker)
        for _ in range(2):
            reply = await slowly(gw)
            assert reply.status_code == 200
            assert (reply.headers["x-hasten-cache"], reply.headers["x-hasten-cache-why"]) == (
                "miss",
                NO_BUDGET,
            )
        assert (store.reads, len(up.requests)) == (0, 2)
        store.hang = True
        gw.worker.reload(replace(gw.worker.settings, slo=Slo(budget_ms={"cache": 500})))
        reply = await slowly(gw, 0.0)
        assert (reply.headers["x-hasten-cache"], reply.headers["x-hasten-cache-why"]) == ("miss", NO_BUDGET)
        assert store.reads == 1
        store.hang = False
        gw.worker.reload(replace(gw.worker.settings, slo=Slo()))
        assert (await slowly(gw)).headers["x-hasten-cache"] == "exact"
        page = await gw.metrics()
        assert 'hasten_budget_skipped_total{stage="cache"} 3' in page
        assert 'hasten_budget_overspent_total{stage="accept"} 2' in page


# -- routes


def named_of(counts: Counts, embed: Embedder, **budget_ms: float) -> NamedStage:
    route = {**PARCEL, "timeout": 10}
    hello = {"patterns": ["^hello"], "to": "other"}
    tree = {**TREE, "routes": {"hello": hello, "parcel": route}, "slo": {"budget_ms": budget_ms}}
    return NamedStage(config.build(tree, environ={}), embed, counts)


async def ready(stage: NamedStage) -> None:
    while stage.state == "loading":
        await asyncio.sleep(0)


async def test_a_named_routes_examples_are_left_out_and_its_patterns_are_not() -> None:
    counts, embed, engine = Counts(), Embedder(), FakeEngine("e")
    stage = named_of(counts, embed, **SPENT)
    await ready(stage)
    learnt = len(embed.texts)
    asked = late(asking("where is my parcel"))
    await stage(asked, engine.send)
    assert (asked.model, asked.trace.named, asked.trace.reasons) == ("m", "", ["named: no budget left"])
    assert len(embed.texts) == learnt
    assert counts.seen["hasten_route_named_total", "", "budget"] == 1
    assert counts.seen["hasten_budget_skipped_total", "named"] == 1
    asked = late(asking("hello"))
    await stage(asked, engine.send)
    assert (asked.trace.named, asked.trace.reasons) == ("hello", [])
    stage = named_of(counts, embed, accept=10, named=AMPLE)
    await ready(stage)
    asked = late(asking("where is my parcel"))
    await stage(asked, engine.send)
    assert asked.trace.named == "parcel"


async def test_what_is_left_limits_the_examples() -> None:
    counts, embed, engine = Counts(), Embedder(), FakeEngine("e")
    stage = named_of(counts, embed, named=50)
    await ready(stage)
    embed.hang = True
    asked = asking("where is my parcel")
    await stage(asked, engine.send)
    assert asked.trace.reasons == ["named: no budget left"]
    assert counts.seen["hasten_route_named_total", "", "budget"] == 1
    assert counts.seen["hasten_route_named_total", "", "timeout"] == 0


async def test_who_cannot_be_judged_in_time_gets_the_strongest_tier() -> None:
    async with two(slo={"budget_ms": {"accept": 10, "route": 10}}) as world:
        said = [{"role": "user", "content": EASY}]
        reply = await slowly(world.gate, model="auto", messages=said)
        assert (reply.headers["x-hasten-model"], reply.headers["x-hasten-route"]) == ("smart", "budget")
        assert "x-hasten-complexity" not in reply.headers
        page = await world.gate.metrics()
        assert 'hasten_budget_skipped_total{stage="route"} 1' in page
        # The conversation's next turn is judged as if nothing had been.
        said += [{"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "what is a dog"}]
        reply = await world.gate.chat(model="auto", messages=said)
        assert (reply.headers["x-hasten-model"], reply.headers["x-hasten-route"]) == ("fast", "easy")


async def test_a_conversation_goes_on_and_a_wish_holds_without_a_budget() -> None:
    async with two(slo={"budget_ms": {"accept": 10, "route": 10}}) as world:
        assert await world.went(EASY) == ("fast", "easy")
        said = [{"role": "user", "content": EASY}, {"role": "assistant", "content": "Yes?"}]
        reply = await slowly(world.gate, model="auto", messages=[*said, {"role": "user", "content": "go on"}])
        assert (reply.headers["x-hasten-model"], reply.headers["x-hasten-route"]) == ("fast", "conversation")
        reply = await slowly(world.gate, model="auto", messages=[*said, {"role": "user", "content": "a dog"}])
        assert (reply.headers["x-hasten-model"], reply.headers["x-hasten-route"]) == ("smart", "budget")
        # That lifted this turn, not the conversation.
        assert await world.went(EASY, "Yes?", "a dog", "Yes.", "a cat") == ("fast", "conversation")
        assert await world.went(HARD) == ("smart", "hard")


# -- what is told


async def test_the_admins_page() -> None:
    slo = {"budget_ms": {"accept": AMPLE, "generate": 1, "queue": 5}}
    async with ScriptedUpstream(Script(ttft=0.05)) as up, gateway(up, slo=slo) as gw:
        clock = FakeClock(START)
        watch = gw.worker.metrics.slo
        watch.ledger = Ledger({10: (60, 300), 60: (1800, 3600, 7200), 600: (21_600, 86_400, 259_200)}, clock)
        for _ in range(3):
            await gw.chat()
        await gw.http.get("/v1/models")
        gw.worker.metrics.flush()
        run(watch, clock, 10)
        page = (await gw.http.get("/admin/slo")).json()
        assert page["scopes"] == []
        kept, over = ({"requests": 3, "overspent": share} for share in (0.0, 1.0))
        windows = ("1m", "5m", "1h")
        assert page["budgets"] == [
            {"stage": "accept", "budget_ms": AMPLE, "windows": dict.fromkeys(windows, kept)},
            {"stage": "generate", "budget_ms": 1.0, "windows": dict.fromkeys(windows, over)},
            {"stage": "queue", "budget_ms": 5.0, "windows": {}},
        ]
        metrics = await gw.metrics()
        assert 'hasten_budget_overspent_total{stage="generate"} 3' in metrics
        assert 'hasten_budget_overspent_total{stage="accept"}' not in metrics
        gw.worker.reload(replace(gw.worker.settings, slo=Slo()))
        assert (await gw.http.get("/admin/slo")).json() == {"scopes": [], "budgets": []}
