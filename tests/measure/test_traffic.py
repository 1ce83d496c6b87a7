"""Counts of all requests over windows, and the points made of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.measure.history import EVERY, POINTS, SETTLE
from hasten.measure.latency import Latency
from hasten.measure.slo import Slo
from hasten.measure.traffic import Traffic
from hasten.measure.watch import Watch
from hasten.settings import Slo as Objectives
from hasten.testing import FakeClock
from hasten.trace import Trace
from tests.measure.taking import take
from tests.measure.test_latency import finished


def staged(e2e: float = 1.0, ttft: float | None = None, **fields: Any) -> Trace:
    trace = finished(e2e, ttft, **fields)
    trace.spans = [("accept", 100.0, 100.0 + e2e / 4), ("upstream", 100.0 + e2e / 4, 100.0 + e2e / 2)]
    return trace


def watching(clock: FakeClock, **objectives: Any) -> Watch:
    return Watch(Latency(clock), Slo(Objectives(**objectives), clock), clock)


def turn(watch: Watch, clock: FakeClock, seconds: float = 5) -> None:
    clock.advance(seconds)
    for _ in watch.latency.fold():
        pass
    for recorder in (watch.latency, watch.slo, watch.traffic, watch.exemplars):
        recorder.ledger.tick()
    watch.history.tick()


def test_what_is_counted() -> None:
    clock = FakeClock(1200.0)
    traffic = Traffic(clock)
    for fields in (
        {"cache": "miss", "input_tokens": 10, "output_tokens": 5, "cached_tokens": 4},
        {"cache": "miss", "input_tokens": 10, "tokens_seen": 3, "discarded": [("small", 100, 50)]},
        {"cache": "miss", "served_model": "large"},
        {"cache": "bypass"},
        {"cache": "exact", "engine": "cache", "input_tokens": 10, "output_tokens": 5},
        {"status": 502, "error": "engine_reset"},
        {"error": "engine_reset"},  # in the stream
        {"status": 400, "error": "invalid_field", "served_model": ""},
        {"status": 499, "error": "client_gone"},
        {"endpoint": "metrics"},
    ):
        take(traffic, staged(2.0, **fields))
    clock.advance(5)
    traffic.ledger.tick()
    shown = traffic.view(60)
    assert shown["requests"] == 9
    assert shown["per_second"] == round(9 / 60, 3)
    assert shown["errors"] == 2
    assert shown["error_codes"] == {"client_gone": 1, "engine_reset": 2, "invalid_field": 1}
    assert shown["outcomes"] == {"bypass": 1, "exact": 1, "miss": 3}
    assert shown["models"] == {"large": 1, "m": 4}
    assert shown["tokens"] == {"input": 120, "output": 58, "cached": 4}
    assert sum(shown["parts_ms"].values()) == pytest.approx(2000)
    assert list(shown["parts_ms"]) == ["accept", "cache", "generate", "gateway"]


def test_after_traffic_without_failures_comes_silence() -> None:
    clock = FakeClock(1200.0)
    traffic = Traffic(clock)
    for _ in range(12):
        take(traffic, staged())
        clock.advance(5)
        traffic.ledger.tick()
    assert traffic.view(60)["requests"] == 12
    for left in range(11, -1, -1):
        clock.advance(5)
        traffic.ledger.tick()
        assert traffic.view(60)["requests"] == left
    clock.advance(4000)
    traffic.ledger.tick()
    assert traffic.view(3600)["requests"] == 0


@given(
    st.lists(
        st.tuples(st.floats(1e-6, 100), st.sampled_from(["", "engine_reset"]), st.integers(0, 2)), max_size=30
    )
)
def test_workers_counts_add_up_to_those_of_one(requests: list[tuple[float, str, int]]) -> None:
    clock = FakeClock(1200.0)
    alone, *workers = (Traffic(clock) for _ in range(4))
    for e2e, error, worker in requests:
        trace = staged(e2e, error=error or None)
        for one in (alone, workers[worker]):
            take(one, trace)
    clock.advance(5)
    alone.ledger.tick()
    sealed = [(one, slice) for one in workers for slice in one.ledger.tick()]
    for told, slice in sealed:
        for one in workers:
            if one is not told:
                one.ledger.hear(slice)
    expected = alone.view(60)
    for one in workers:
        assert one.view(60) == expected | {"parts_ms": pytest.approx(expected["parts_ms"], abs=1e-3)}


def points(watch: Watch) -> dict[str, Any]:
    return dict(msgspec.json.decode(watch.history.view()))


def test_points_are_taken_when_all_have_been_heard() -> None:
    clock = FakeClock(1200.0)
    watch = watching(clock, e2e_p95_ms=1500)
    wall = 1_700_000_000.0
    watch.history._wall = lambda: wall + clock.now - 1200
    assert points(watch)["t"] == []
    turn(watch, clock, SETTLE - 0.1)
    assert points(watch)["t"] == []  # the slice before the start
    turn(watch, clock, 0.1)
    assert points(watch)["t"] == [wall]
    for seconds in (1.0, 2.0):
        for recorder in (watch.latency, watch.traffic, watch.slo):
            take(recorder, staged(seconds, 0.4, cache="miss"))
    take(watch.traffic, staged(1.0, error="engine_reset", status=502, cache="miss"))
    take(watch.traffic, staged(1.0, cache="exact"))
    take(watch.traffic, staged(1.0, cache="bypass"))
    for _ in range(20):
        turn(watch, clock, 1)
    shown = points(watch)
    assert shown["t"] == [wall + EVERY * i for i in range(5)]
    assert shown["per_second"] == [0, *[round(5 / 60, 3)] * 4]
    assert shown["errors"] == [None, *[0.2] * 4]
    assert shown["hits"] == [None, *[0.25] * 4]
    assert shown["goodput"] == [None, None, 0.5, 0.5, 0.5]  # of slices of ten seconds
    assert shown["e2e"]["p50"] == [None, *[pytest.approx(1500, rel=0.01)] * 4]
    assert shown["ttft"]["p99"] == [None, *[pytest.approx(400, rel=0.01)] * 4]
    assert shown["parts"]["accept"] == [None, *[pytest.approx(1250 / 4, rel=0.01)] * 4]
    assert {len(column) for column in columns(shown)} == {5}
    assert watch.history.view() is watch.history.view()


def columns(shown: Any) -> list[list[Any]]:
    if isinstance(shown, list):
        return [shown]
    return [column for part in shown.values() for column in columns(part)]


def test_a_stage_that_comes_later_has_a_past_and_points_are_bounded() -> None:
    clock = FakeClock(1200.0)
    watch = watching(clock)
    for i in range(POINTS + 30):
        if i >= POINTS:
            take(watch, staged(1.0))
        turn(watch, clock)
    shown = points(watch)
    assert {len(column) for column in columns(shown)} == {POINTS}
    assert shown["parts"]["accept"][-31:] == [None, *[250.0] * 30]


def test_windows_are_encoded_when_they_change() -> None:
    clock = FakeClock(1200.0)
    watch = watching(clock)
    first = watch.windows()
    assert watch.windows() is first
    empty = msgspec.json.decode(first)
    assert set(empty) == {"1m", "5m", "1h"}
    assert empty["1m"]["e2e"] == {
        "n": 0,
        **dict.fromkeys(("p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99.9_ms")),
    }
    assert empty["1m"]["ttft"] is None
    take(watch, staged(1.0))
    turn(watch, clock)
    assert msgspec.json.decode(watch.windows())["1h"]["e2e"]["n"] == 1
