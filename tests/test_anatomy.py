"""The anatomy of a request: parts that add up, and the right name for each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.anatomy import STAGES, parts, segments
from hasten.trace import Trace

SECONDS = st.floats(0, 10, allow_nan=False)


def finished(
    end: float, *spans: tuple[str, float, float], first: float | None = None, **fields: object
) -> Trace:
    """Return a trace that began at 0."""
    trace = Trace(t0=0.0)
    trace.spans = list(spans)
    trace.t_end, trace.t_first = end, first
    trace.attempts, trace.engine = 1, "e"
    for name, value in fields.items():
        setattr(trace, name, value)
    return trace


@given(
    spans=st.lists(st.tuples(st.sampled_from([*STAGES, "upstream"]), SECONDS, SECONDS), max_size=8),
    times=st.tuples(SECONDS, SECONDS),
    stream=st.booleans(),
    engine=st.sampled_from(["", "e", "cache"]),
    told=st.one_of(st.none(), st.tuples(SECONDS, SECONDS)),
)
def test_the_parts_add_up_to_the_whole(
    spans: list[tuple[str, float, float]],
    times: tuple[float, float],
    stream: bool,
    engine: str,
    told: tuple[float, float] | None,
) -> None:
    first, end = sorted(times)
    noted = [(stage, min(a, b, end), min(max(a, b), end)) for stage, a, b in spans]
    trace = finished(end, *noted, stream=stream, engine=engine, first=first if stream else None)
    if told is not None:
        trace.engine_prefill, trace.engine_decode = told
    line = segments(trace)
    assert all(a < b for _, a, b in line)
    assert [b for _, _, b in line][:-1] == [a for _, a, _ in line][1:]
    if end > 0:
        assert (line[0][1], line[-1][2]) == (0.0, end)
    assert sum(parts(trace).values()) == pytest.approx(end, abs=1e-9)
    assert set(parts(trace)) <= set(STAGES)


@given(
    lengths=st.lists(
        st.tuples(
            st.sampled_from(
                ["accept", "cache", "queue", "connect", "upstream", "upstream", "cascade", "client"]
            ),
            st.floats(0, 2),
            st.floats(0, 2),
        ),
        max_size=5,
    ),
    rest=st.floats(-1, 2),
    first=st.one_of(st.none(), st.floats(0, 10)),
    engine=st.sampled_from(["e", "cache"]),
    attempts=st.integers(0, 2),
)
def test_the_short_way_to_the_parts_leads_where_the_long_one_does(
    lengths: list[tuple[str, float, float]], rest: float, first: float | None, engine: str, attempts: int
) -> None:
    at, spans = 0.0, []
    for stage, gap, took in lengths:
        spans.append((stage, at + gap, at + gap + took))
        at += gap + took
    fields = {"stream": first is not None, "engine": engine, "attempts": attempts}
    trace = finished(max(0.0, at + rest), *spans, first=first, **fields)
    sums: dict[str, float] = {}
    for stage, start, end in segments(trace):
        sums[stage] = sums.get(stage, 0.0) + end - start
    found = parts(trace)
    for stage in sums.keys() | found.keys():
        assert found.get(stage, 0.0) == pytest.approx(sums.get(stage, 0.0), abs=1e-9)


def test_a_stream_of_an_engine() -> None:
    spans = ("accept", 0, 1), ("cache", 1, 3), ("connect", 3, 4), ("upstream", 4, 6)
    assert parts(finished(20, *spans, stream=True, first=7)) == {
        "accept": 1,
        "cache": 2,
        "connect": 1,
        "prefill": 3,  # its first event had no token
        "decode": 13,
    }


def test_a_stream_whose_client_reads_slowly() -> None:
    spans = ("accept", 0, 1), ("upstream", 1, 5), ("client", 8, 11)
    assert parts(finished(20, *spans, stream=True, first=5)) == {
        "accept": 1,
        "prefill": 4,
        "decode": 12,
        "client": 3,
    }


def test_a_whole_answer() -> None:
    spans = ("accept", 0, 1), ("route", 2, 3), ("upstream", 3, 9)
    assert parts(finished(10, *spans)) == {"accept": 1, "gateway": 2, "route": 1, "generate": 6}
    told = {"engine_prefill": 2.0, "engine_decode": 3.0}
    assert segments(finished(10, *spans, **told))[3:] == [
        ("engine_queue", 3, 4),
        ("prefill", 4, 6),
        ("decode", 6, 9),
        ("gateway", 9, 10),
    ]


def test_an_engine_tells_of_its_queue() -> None:
    spans = ("accept", 0, 1), ("upstream", 1, 6)
    told = {"engine_prefill": 2.0, "engine_decode": 3.0}
    assert parts(finished(9, *spans, stream=True, first=6, **told)) == {
        "accept": 1,
        "engine_queue": 3,
        "prefill": 2,
        "decode": 3,
    }


def test_engines_that_failed_before() -> None:
    spans = ("accept", 0, 1), ("upstream", 1, 4), ("connect", 4, 5), ("upstream", 5, 9)
    assert parts(finished(9, *spans))["retry"] == 3
    assert parts(finished(9, *spans))["generate"] == 4


def test_hits_and_those_who_wait_for_another() -> None:
    spans = ("accept", 0, 1), ("cache", 1, 4)
    hit = finished(9, *spans, stream=True, first=4, engine="cache", attempts=0)
    assert parts(hit) == {"accept": 1, "cache": 8}


def test_a_client_that_left_while_the_engine_was_at_it() -> None:
    assert parts(finished(9, ("accept", 0, 1))) == {"accept": 1, "generate": 8}
    assert parts(finished(9, ("accept", 0, 1), stream=True)) == {"accept": 1, "prefill": 8}


def test_a_page_is_the_gateway_s_own() -> None:
    assert parts(finished(2, attempts=0, engine="")) == {"gateway": 2}


def test_tiers_that_ran_side_by_side() -> None:
    spans = ("accept", 0, 1), ("cascade", 1, 4), ("upstream", 1, 6)
    assert parts(finished(6, *spans)) == {"accept": 1, "cascade": 3, "generate": 2}


def test_a_tier_s_stream_that_was_held() -> None:
    spans = ("accept", 0, 1), ("upstream", 1, 6), ("cascade", 6, 9)
    told = {"engine_prefill": 2.0, "engine_decode": 5.0}
    assert parts(finished(12, *spans, stream=True, first=9, **told)) == {
        "accept": 1,
        "engine_queue": 3,
        "prefill": 2,
        "cascade": 3,
        "decode": 3,
    }


def test_a_first_token_that_came_before_the_gateway_turned_to_it() -> None:
    spans = ("accept", 0, 1), ("upstream", 1, 6)
    assert parts(finished(9, *spans, stream=True, first=5)) == {"accept": 1, "prefill": 4, "decode": 4}


def test_what_is_told_of_other_shapes_is_left() -> None:
    trace = Trace()
    for told in ([1], {"prompt_ms": "3", "predicted_ms": 1}, {"cache_n": None}, "fast"):
        trace.saw_timings(told)
    assert (trace.engine_prefill, trace.engine_decode, trace.cached_tokens) == (None, None, None)
    trace.saw_timings({"prompt_ms": 12.5, "predicted_ms": 40, "cache_n": 7})
    assert (trace.engine_prefill, trace.engine_decode, trace.cached_tokens) == (0.0125, 0.04, 7)
