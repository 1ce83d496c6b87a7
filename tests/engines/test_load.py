"""Engines' own metrics: pages of both generations of each, and Prometheus's parser as the judge of ours."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hasten.engines.load import MAX_LINE, WINDOW, Load, Reader, samples
from hasten.testing import FakeClock
from tests.engines import pages


def look(*texts: str, every: float = 2.0) -> Load:
    """Read pages ``every`` seconds apart; return what the last one told."""
    clock = FakeClock()
    reader = Reader(clock)
    for text in texts:
        clock.advance(every)
        load = reader.read(text)
    assert load is not None
    assert load.at == clock.now
    return load


def sglang(prompt: int, cached: int, queued: float, count: int, forward: float) -> str:
    text = pages.SGLANG_NEW
    given = {"PROMPT": prompt, "CACHED": cached, "QUEUED": queued, "COUNT": count, "FORWARD": forward}
    for name, value in given.items():
        text = text.replace(name, str(value))
    return text


def test_vllm_of_the_first_generation() -> None:
    load = look(pages.VLLM_V0)
    assert (load.running, load.waiting, load.kv_usage, load.cached_share) == (3, 2, 0.25, 0.5)
    assert (load.queue, load.prefill, load.decode) == (None, None, None)  # nothing to compare with
    assert (
        look(
            pages.VLLM_V0.replace('hit_rate{model_name="m"} 0.5', 'hit_rate{model_name="m"} -1.0')
        ).cached_share
        is None
    )
    later = pages.VLLM_V0.replace('sum{model_name="m"} 1.5', 'sum{model_name="m"} 2.5').replace(
        "} 5.0", "} 7.0"
    )
    assert look(pages.VLLM_V0, later).queue == pytest.approx(0.5)


def test_vllm_of_the_second_generation_with_two_engines() -> None:
    load = look(pages.VLLM_V1)
    assert (load.running, load.waiting) == (6, 1)
    assert load.kv_usage == pytest.approx(0.4)
    assert load.cached_share is None
    load = look(pages.VLLM_V1, pages.VLLM_V1_LATER)
    assert (load.running, load.waiting, load.kv_usage) == (1, 0, None)
    assert load.cached_share == pytest.approx(0.75)
    assert (load.queue, load.prefill, load.decode) == pytest.approx((0.05, 0.5, 3.5))


def test_the_names_between_vllms_generations() -> None:
    first = (
        "vllm:num_requests_running 1\n"
        'vllm:gpu_prefix_cache_queries_total{m="a"} 10\n'
        "vllm:gpu_prefix_cache_hits_total 5\n"
    )
    then = first.replace("} 10", "} 30").replace("total 5", "total 10")
    assert look(first, then).cached_share == 0.25
    bare = [text.replace("_total", "") for text in (first, then)]
    assert look(*bare).cached_share == 0.25


def test_sglang_of_both_generations() -> None:
    load = look(pages.SGLANG_OLD)
    assert (load.running, load.waiting, load.kv_usage) == (162, 2826, 0.28)
    assert load.cached_share == pytest.approx(0.0075, abs=1e-4)
    load = look(sglang(1000, 100, 5, 10, 20), sglang(2000, 350, 6, 14, 21))
    assert (load.running, load.waiting) == (7, 5)
    assert load.kv_usage == pytest.approx(0.3)
    assert load.cached_share == 0.25
    assert (load.queue, load.prefill, load.decode) == (0.25, 0.25, None)


def test_llama_cpp_of_both_generations() -> None:
    load = look(pages.LLAMA_OLD, pages.LLAMA_OLD.replace("total 100", "total 200"))
    assert (load.running, load.waiting, load.kv_usage, load.cached_share) == (2, 1, 0.125, None)
    new = pages.LLAMA_NEW
    load = look(new.format(prompt=38, cached=0), new.format(prompt=48, cached=30))
    assert (load.running, load.waiting, load.kv_usage, load.cached_share) == (4, 46, None, 0.75)


def test_text_generation_inference() -> None:
    load = look(pages.TGI, pages.TGI.replace("1.2", "1.6").replace("count 10", "count 12"))
    assert (load.running, load.waiting, load.prefill) == (4, 7, None)
    assert load.queue == pytest.approx(0.2)


def test_an_engine_that_started_anew_is_compared_with_itself_only() -> None:
    full = sglang(2000, 350, 6, 14, 21)
    fallen = sglang(10, 5, 0.1, 1, 0.1)
    load = look(full, fallen)
    assert (load.cached_share, load.queue, load.prefill) == (None, None, None)
    assert look(full, fallen, sglang(20, 5, 0.3, 2, 0.1)).queue == pytest.approx(0.2)


def test_means_are_of_ten_seconds_and_not_of_what_is_older() -> None:
    def page(count: int, queued: float) -> str:
        return sglang(1000, 0, queued, count, 0)

    clock = FakeClock()
    reader = Reader(clock)
    for i in range(20):
        clock.advance(2.0)
        load = reader.read(page(10 + i, 5 + i * (0.1 if i < 10 else 1.0) - (9 if i >= 10 else 0)))
    assert load is not None
    assert load.queue == pytest.approx(1.0)
    clock.advance(WINDOW + 1)
    load = reader.read(page(100, 100))
    assert load is not None
    assert load.queue is None


@pytest.mark.parametrize(
    "text",
    ["", "<html>no metrics</html>", '{"error": "no"}', "go_goroutines 7\n", "vllm:num_requests_running\n"],
)
def test_a_page_of_something_else_says_nothing(text: str) -> None:
    assert Reader().read(text) is None


@given(st.text(alphabet='vlm:num_requests{}="\\,0123456789.eE+-# \t\r\nNaIif', max_size=200))
def test_no_page_breaks_the_reader(text: str) -> None:
    Reader().read("vllm:num_requests_running 1\n" + text)


names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True)
labels = st.dictionaries(
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9]{0,4}", fullmatch=True),  # not __: reserved
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    )
    | st.sampled_from(['"', "\\", "\n", "\\n", "{}", 'a,b="c"', "}"]),
    max_size=4,
)
values = st.floats() | st.integers(-(2**40), 2**40)


def shown(name: str, labels: dict[str, str], value: float, form: tuple[str, str]) -> str:
    """Return a line as engines in some language would write it."""
    escaped = {k: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for k, v in labels.items()}
    pairs = ",".join(f'{k}="{v}"' for k, v in escaped.items())
    number = {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN" if value != value else repr(value))
    comma, tail = form
    return f"{name}{'{' + pairs + comma * bool(pairs) + '}' if pairs else ''} {number}{tail}"


@given(
    st.lists(
        st.tuples(
            names, labels, values, st.tuples(st.sampled_from(["", ","]), st.sampled_from(["", " 1700000000"]))
        ),
        max_size=8,
    )
)
def test_prometheus_own_parser_reads_the_same(
    lines: list[tuple[str, dict[str, str], float, tuple[str, str]]],
) -> None:
    page = "# HELP x y\n# TYPE x gauge\n" + "\n".join(shown(*line) for line in lines) + "\n"
    expected = [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]
    assert [(n, v, repr(x)) for n, v, x in samples(page)] == [(n, v, repr(float(x))) for n, v, x in expected]


def test_a_line_without_an_end_is_left_out() -> None:
    page = f'a{{x="{"y" * MAX_LINE}"}} 1\nb 2\n'
    assert list(samples(page)) == [("b", {}, 2.0)]
