"""The metrics page is what Prometheus's own parser reads, and counts what happened."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hasten.measure.families import FAMILIES
from hasten.measure.metrics import Metrics
from hasten.measure.prometheus import render
from hasten.measure.registry import Family, Registry, Slots, merge, read
from hasten.testing import Script, ScriptedUpstream
from tests.gateway import eventually, gateway

BOUNDS = (0.1, 1.0, 2.5)
FAMILY = Family("h", "histogram", "help", ("a", "b"), BOUNDS)
COUNT = Family("c_total", "counter", "help", ("a",))
GAUGE = Family("g", "gauge", "help", ())

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(page: bytes) -> Samples:
    """Return every sample; two of the same name and labels are an error."""
    found: Samples = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def naive(observed: list[tuple[str, str, float]]) -> Samples:
    """Count again, the slow way."""
    made: Samples = {}
    for a, b in {(a, b) for a, b, _ in observed}:
        values = [v for x, y, v in observed if (x, y) == (a, b)]
        labels = {("a", a), ("b", b)}
        for bound, name in [*zip(BOUNDS, ("0.1", "1", "2.5"), strict=True), (float("inf"), "+Inf")]:
            made["h_bucket", frozenset(labels | {("le", name)})] = sum(v <= bound for v in values)
        made["h_count", frozenset(labels)] = len(values)
        made["h_sum", frozenset(labels)] = sum(values)
    return made


# Names end in no carriage return: the format has no escape for it.
text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
    max_size=8,
)
# Eighths: sums of them are exact.
observations = st.lists(
    st.tuples(
        st.sampled_from(["", "x", 'q"\\', "a\nb"]) | text,
        st.sampled_from(["y", "z"]),
        st.integers(0, 40).map(lambda n: n / 8),
    ),
    max_size=40,
)


@given(observations)
def test_histograms_are_a_naive_count(observed: list[tuple[str, str, float]]) -> None:
    registry = Registry([FAMILY])
    for a, b, value in observed:
        registry.histogram("h", a, b).observe([value])
    assert parse(render([FAMILY], registry.collect())) == naive(observed)


@given(st.lists(text | st.sampled_from(['"', "\\", "\n", "\\n", '\\"', "{}", ",", "="]), max_size=20))
def test_labels_come_back_as_they_were(labels: list[str]) -> None:
    registry = Registry([COUNT])
    for label in labels:
        registry.value("c_total", label).add()
    counted = Counter(labels)
    assert parse(render([COUNT], registry.collect())) == {
        ("c_total", frozenset({("a", label)})): count for label, count in counted.items()
    }


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[int], Registry]]:
    """Make the registry of a worker; closed at the end."""
    made: list[Registry] = []

    def one(index: int) -> Registry:
        made.append(Registry([FAMILY, COUNT, GAUGE], tmp_path / f"{index}.slots"))
        return made[-1]

    yield one
    for registry in made:
        registry.close()


def test_workers_are_added_up(make: Callable[[int], Registry]) -> None:
    one, two = make(0), make(1)
    for registry, value in ((one, 0.5), (two, 0.5), (two, 3.0)):
        registry.histogram("h", "x", "y").observe([value])
        registry.value("c_total", "x").add()
    two.value("c_total", "only two").add(5)
    one.value("g").set(2)
    two.value("g").set(3)
    assert one.collect() == two.collect()
    page = parse(render([FAMILY, COUNT, GAUGE], one.collect()))
    assert page["c_total", frozenset({("a", "x")})] == 3
    assert page["c_total", frozenset({("a", "only two")})] == 5
    assert page["g", frozenset()] == 5
    assert page["h_count", frozenset({("a", "x"), ("b", "y")})] == 3


def test_a_file_that_is_being_made_is_passed_over(make: Callable[[int], Registry], tmp_path: Path) -> None:
    registry = make(0)
    registry.value("c_total", "x").add()
    for i, content in enumerate((b"", b"HASTEN01", b"\0" * 100, b"HASTEN01" + b"\xff" * 8, b"x" * 1000), 1):
        (tmp_path / f"{i}.slots").write_bytes(content)
    assert registry.collect() == {("c_total", ("x",)): [1.0]}


def test_many_series_grow_the_file_and_keep_their_counts(
    make: Callable[[int], Registry], tmp_path: Path
) -> None:
    registry = make(0)
    values = [registry.value("c_total", f"{i:0100d}") for i in range(5000)]
    for value in values:
        value.add()
    for value in values:
        value.add()
    assert set(map(tuple, read((tmp_path / "0.slots").read_bytes()).values())) == {(2.0,)}
    assert len(registry.collect()) == 5000


@given(st.lists(st.tuples(st.text(max_size=5), st.integers(1, 5)), max_size=30, unique_by=lambda x: x[0]))
def test_what_is_reserved_is_read_back(reserved: list[tuple[str, int]]) -> None:
    slots = Slots()
    for name, count in reserved:
        at = slots.reserve((name, ("l",)), count)
        slots.view[at + count - 1] = count
    found = read(slots.snapshot())
    assert found == {(name, ("l",)): [0.0] * (count - 1) + [float(count)] for name, count in reserved}
    assert merge([found, found]) == {key: [2 * v for v in values] for key, values in found.items()}


async def test_every_family_has_the_head_that_prometheus_wants() -> None:
    names = {family.name: family.type for family in text_string_to_metric_families(Metrics().page().decode())}
    for family in FAMILIES:
        assert (
            names[family.name.removesuffix("_total")] == family.kind or names.get(family.name) == family.kind
        )
        assert family.kind != "counter" or family.name.endswith("_total")
        assert list(family.bounds) == sorted(set(family.bounds))
        # promtool check metrics: these labels are for these kinds alone
        assert "quantile" not in family.labels or family.kind == "summary"
        assert "le" not in family.labels


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
async def test_promtool_accepts_the_page() -> None:
    async with ScriptedUpstream() as up, gateway(up, slo={"e2e_p95_ms": 800}) as gw:
        for model in ("m", "none"):
            await gw.chat(model=model, stream=True)
        await eventually(lambda: b"hasten_latency_seconds{" in gw.worker.metrics.page(), 20)
        page = (await gw.http.get("/metrics")).content
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_the_page_after_requests() -> None:
    async with ScriptedUpstream() as up, gateway(up) as gw:
        for stream in (False, True, True):
            await gw.chat(stream=stream, stream_options={"include_usage": True} if stream else None)
        up.script = Script(status=500)
        await gw.chat()
        page = parse((await gw.http.get("/metrics")).content)
        call = {
            ("gen_ai_operation_name", "chat"),
            ("gen_ai_provider_name", "openai"),
            ("gen_ai_request_model", "m"),
            ("gen_ai_response_model", "m"),
            ("hasten_engine", "e0"),
        }
        assert page["hasten_requests_total", frozenset({("endpoint", "chat"), ("status", "200")})] == 3
        assert page["hasten_requests_total", frozenset({("endpoint", "chat"), ("status", "500")})] == 1
        assert page["gen_ai_server_request_duration_seconds_count", frozenset(call)] == 4
        assert page["gen_ai_server_time_to_first_token_seconds_count", frozenset(call)] == 2
        assert page["gen_ai_server_time_per_output_token_seconds_count", frozenset(call)] == 2
        for kind, tokens in (("input", 30), ("output", 21)):
            assert (
                page["gen_ai_client_token_usage_sum", frozenset(call | {("gen_ai_token_type", kind)})]
                == tokens
            )
        assert page["hasten_connections", frozenset()] >= 1
        assert page["hasten_requests_in_flight", frozenset()] == 1  # this one
