"""Requests kept whole: the slowest are never missed, workers agree, and what is kept is bounded."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.errors import InvalidField, UnknownRequest
from hasten.measure.exemplars import ERRORS, SAMPLE, SLOWEST, Exemplars, Slices
from hasten.measure.latency import Latency
from hasten.measure.shelf import Shelf
from hasten.measure.windows import Keeper
from hasten.testing import FakeClock, ScriptedUpstream
from hasten.trace import Trace, new_id
from tests.gateway import gateway
from tests.measure.taking import take
from tests.measure.test_latency import finished


def named(e2e: float, ttft: float | None = None, **fields: Any) -> Trace:
    return finished(e2e, ttft, **{"id": new_id(), "cache": "miss", **fields})


def kept(clock: FakeClock) -> Exemplars:
    return Exemplars(Latency(clock), clock)


def settle(exemplars: Exemplars, clock: FakeClock, seconds: float = 10) -> None:
    clock.advance(seconds)
    exemplars.ledger.tick()


def shown(exemplars: Exemplars, query: str = "", tenant: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = exemplars.search(query.encode(), tenant)["requests"]
    return found


REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 25), st.floats(0.001, 10), st.one_of(st.none(), st.floats(0, 1)), st.integers(0, 2)
    ),
    max_size=120,
)


@given(REQUESTS)
def test_the_slowest_of_a_window_are_found_by_whichever_workers_saw_them(
    requests: list[tuple[int, float, float | None, int]],
) -> None:
    clock = FakeClock(1200.0)
    alone, workers = kept(clock), [kept(clock) for _ in range(3)]
    traces: list[tuple[float, Trace]] = []

    def turn() -> None:
        alone.ledger.tick()
        sealed = [(one, slice) for one in workers for slice in one.ledger.tick()]
        for told, slice in sealed:
            for one in workers:
                if one is not told:
                    one.ledger.hear(slice)
                    one.ledger.hear(slice)  # twice is as once

    for wait, e2e, first, worker in requests:
        clock.advance(wait)
        turn()
        trace = named(e2e, None if first is None else first * e2e)
        traces.append((clock.now, trace))
        take(alone, trace)
        take(workers[worker], trace)
    clock.advance(10)
    turn()
    for seconds, width in ((60, 10), (300, 10), (3600, 60)):
        begin = clock.now // width * width - seconds
        held = [trace for when, trace in traces if when // width * width >= begin]
        for place, measure in enumerate(("duration", "ttft", "tpot")):
            times = [time for trace in held if (time := getattr(trace, measure)) is not None]
            expected = sorted(times, reverse=True)[:SLOWEST]
            for one in (alone, *workers):
                found = {e for e in one.ledger.window(seconds) if e.times[place] >= 0}
                assert sorted((e.times[place] for e in found), reverse=True)[:SLOWEST] == expected
        assert {frozenset(one.ledger.window(seconds)) for one in workers} == {
            frozenset(alone.ledger.window(seconds))
        }


def test_what_is_kept_is_bounded() -> None:
    clock = FakeClock(3600.0)
    exemplars = kept(clock)
    reasons = ["e" * 500 + ": engine_refused"] * 50
    spans = [("cache", 100 + i / 100, 100 + i / 100 + 0.002) for i in range(60)]
    names = dict.fromkeys(("model", "engine", "served_model", "cache_why", "route"), "ñ😀" * 900)
    source = Random(1)
    tracemalloc.start()
    for seconds in [60] * 60 + [10] * 30:
        for i in range(80):
            fields: dict[str, Any] = {"reasons": reasons, "spans": spans, "error": None if i else "e" * 900}
            take(exemplars, named(1 + source.random(), source.random(), **names, **fields))
        settle(exemplars, clock, seconds)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 6 * SAMPLE < len(exemplars.ledger.window(60)) <= 6 * (3 * SLOWEST + SAMPLE)
    assert len(exemplars.ledger.errors()) == ERRORS
    assert 2**20 < used < 4 * 2**20
    settle(exemplars, clock, 4000)
    assert exemplars.ledger.window(3600) == []


def test_ids_are_kept_whole_and_each_tenant_finds_its_own() -> None:
    clock = FakeClock(1200.0)
    exemplars = kept(clock)
    long = "i" * 128
    for tenant, e2e in (("acme", 1.0), ("beta", 2.0)):
        take(exemplars, named(e2e, id=long, tenant=tenant))
    take(exemplars, named(3.0, id=long[:-1] + "j", tenant="acme"))
    settle(exemplars, clock)
    assert exemplars.one(long, "acme")["e2e_ms"] == 1000
    assert exemplars.one(long, "beta")["e2e_ms"] == 2000
    assert exemplars.one(long[:-1] + "j", "acme")["id"] == long[:-1] + "j"
    with pytest.raises(UnknownRequest):
        exemplars.one(long, "gamma")


def test_the_nearest_to_a_percentile_come_first() -> None:
    clock = FakeClock(1200.0)
    exemplars = kept(clock)
    for i in range(1, 101):
        for recorder in (exemplars, exemplars._latency):
            take(recorder, named(i / 100, i / 200))
    for _ in exemplars._latency.fold():
        pass
    settle(exemplars, clock)
    exemplars._latency.ledger.tick()
    told = exemplars.search(b"near=p50&measure=ttft&window=5m&limit=3", None)
    assert told["value_ms"] == pytest.approx(252, rel=0.02)
    distances = [abs(request["ttft_ms"] - told["value_ms"]) for request in told["requests"]]
    assert distances == sorted(distances)
    assert len(distances) == 3
    slowest = [request["e2e_ms"] for request in shown(exemplars, "limit=5")]
    assert slowest == [1000, 990, 980, 970, 960]
    assert (told["kept"], told["of"]) == (len(exemplars.ledger.window(300)), 100)
    assert SLOWEST <= told["kept"] <= 3 * SLOWEST + SAMPLE
    take(exemplars, named(2.0, error="engine_reset"))  # of errors the last are kept, of whatever time
    settle(exemplars, clock)
    errors = exemplars.search(b"near=errors", None)
    assert (errors["kept"], errors["of"]) == (1, None)


def test_of_how_many_the_kept_ones_are_is_told_of_ones_own() -> None:
    clock = FakeClock(1200.0)
    exemplars = kept(clock)
    assert (exemplars.search(b"", None)["kept"], exemplars.search(b"", None)["of"]) == (0, None)
    for i in range(60):
        for recorder in (exemplars, exemplars._latency):
            take(recorder, named(1 + i / 100, None if i % 2 else 0.5, tenant="acme" if i % 3 else "beta"))
    for _ in exemplars._latency.fold():
        pass
    settle(exemplars, clock)
    exemplars._latency.ledger.tick()
    take(exemplars, named(9.0, tenant="new"))  # kept at once; counted when its slice is over
    own = ((None, "e2e", 60), ("beta", "e2e", 20), ("acme", "ttft", 20), ("new", "e2e", None))
    for tenant, measure, of in own:
        told = exemplars.search(f"measure={measure}&limit=100".encode(), tenant)
        assert (told["kept"], told["of"]) == (len(told["requests"]), of)


def test_what_a_request_shows() -> None:
    clock = FakeClock(1200.0)
    exemplars = kept(clock)
    trace = named(
        2.0, 0.5, stream=True, reasons=["a: circuit_open"], tenant="acme", input_tokens=7, cost=0.25
    )
    trace.spans = [("accept", 100.0, 100.1), ("upstream", 100.1, 100.5)]
    take(exemplars, trace)
    settle(exemplars, clock)
    (found,) = shown(exemplars)
    assert found["segments"] == [("accept", 0.0, 100.0), ("prefill", 100.0, 400.0), ("decode", 500.0, 1500.0)]
    assert (found["e2e_ms"], found["ttft_ms"], found["tpot_ms"]) == (2000, 500, 150)
    assert (found["reasons"], found["cost"], found["tenant"]) == (["a: circuit_open"], 0.25, "acme")
    assert found["time"].endswith("Z")
    assert exemplars.one(trace.id, None) == found


def test_errors_are_kept_apart_and_tenants_see_their_own() -> None:
    clock = FakeClock(1200.0)
    exemplars = kept(clock)
    for i in range(60):
        times = {"t0": 100.0 + i, "t_end": 101.0 + i}
        take(exemplars, named(1.0, id=f"e{i}", error="engine_reset", status=502, tenant="acme", **times))
        take(exemplars, named(1.0, tenant="beta", **times))
    take(exemplars, named(1.0, endpoint="metrics"))
    settle(exemplars, clock)
    failed = shown(exemplars, "near=errors&limit=100")
    assert len(failed) == ERRORS
    assert {request["error"] for request in failed} == {"engine_reset"}
    assert [request["id"] for request in failed] == [f"e{i}" for i in reversed(range(10, 60))]
    assert {request["tenant"] for request in shown(exemplars)} == {"beta"}
    assert shown(exemplars, "", "acme") == shown(exemplars, "near=errors", "beta") == []
    id = failed[0]["id"]
    assert exemplars.one(id, "acme")["id"] == id
    for of, tenant in ((id, "beta"), ("nobody", None)):
        with pytest.raises(UnknownRequest):
            exemplars.one(of, tenant)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("window=2m", "window"),
        ("measure=", "measure"),
        ("near=p42", "near"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=5&limit=6", "limit"),
        ("color=red", "color"),
        ("&".join(["a=1"] * 99), None),
        ("\xff", None),
    ],
)
def test_wrong_queries_are_refused(query: str, param: str | None) -> None:
    with pytest.raises(InvalidField) as refused:
        kept(FakeClock()).search(query.encode("latin-1"), None)
    assert refused.value.param == param


async def test_workers_share_over_the_shelf(tmp_path: Path) -> None:
    clock = FakeClock(1200.0)
    workers = [kept(clock) for _ in range(2)]
    keepers = [Keeper("exemplars", w, Shelf(tmp_path / "s", str(i))) for i, w in enumerate(workers)]
    take(workers[0], named(1.0))
    take(workers[1], named(2.0, error="engine_reset"))
    for _ in range(200):
        for keeper in keepers:
            await keeper.turn()
        clock.advance(1)
    late = kept(clock)
    keeper = Keeper("exemplars", late, Shelf(tmp_path / "s", "2"))
    for _ in range(3):
        await keeper.turn()
        clock.advance(1)
    for one in (*workers, late):
        assert len(one.ledger.errors()) == len(one.ledger.window(300)) == len(one.ledger.window(3600)) == 1
    for _ in range(4000):
        for keeper in keepers:
            await keeper.turn()
        clock.advance(1)
    left = [path.name.split(".")[1] for path in (tmp_path / "s").iterdir()]
    assert set(left) == {"60"}  # they carry the last errors on
    assert len(left) <= 2 * 61


def test_a_slice_too_old_is_not_heard() -> None:
    clock = FakeClock(1200.0)
    one, other = Slices(clock), Slices(clock)
    take(one, named(1.0))
    clock.advance(10)
    (sealed,) = one.tick()
    clock.advance(7200)
    other.tick()
    other.hear(sealed)
    assert other.window(3600) == []


async def test_over_http() -> None:
    tenants = {"acme": {"keys": ["k-acme"]}, "beta": {"keys": ["k-beta"]}}
    async with ScriptedUpstream() as up, gateway(up, tenants=tenants) as gw:
        for key in ("k-acme", "k-beta"):
            await gw.chat(headers={"x-api-key": key, "x-request-id": f"of-{key}"})

        async def get(path: str, key: str) -> Any:
            return await gw.http.get(path, headers={"x-api-key": key})

        gw.worker.metrics.flush()
        found = (await get("/admin/requests", "k-acme")).json()["requests"]
        assert [request["id"] for request in found] == ["of-k-acme"]
        assert (await get("/admin/requests/of-k-acme", "k-acme")).json() == found[0]
        assert (await get("/admin/requests/of-k-acme", "k-beta")).status_code == 404
        assert (await get("/admin/requests/", "k-beta")).status_code == 404
        refused = await get("/admin/requests?near=p1", "k-beta")
        assert refused.status_code == 400
        assert "slowest, p50" in refused.json()["error"]["message"]
        assert (await gw.http.get("/admin/requests")).status_code == 401
