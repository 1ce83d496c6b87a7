"""Windows slide, workers' counts add up, and what is counted is bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.measure.ledger import OTHER, Ledger, Part, pack, unpack
from hasten.measure.shelf import Shelf
from hasten.testing import FakeClock

WINDOWS = {5: (60,), 10: (300,), 60: (3600,)}
A = ("e2e", "model", "a")


def one(at: int = 1) -> Part:
    return {A: {at: 1}}


def test_a_window_slides() -> None:
    clock = FakeClock(1020.0)  # where slices of all widths begin
    ledger = Ledger(WINDOWS, clock)

    def shown() -> list[dict[int, int]]:
        return [ledger.counts(A, seconds) for seconds in (60, 300, 3600)]

    ledger.add(one())
    ledger.tick()
    assert shown() == [{}, {}, {}]  # not over yet
    clock.advance(5)
    assert [(s.width, s.slot) for s in ledger.tick()] == [(5, 204)]
    assert shown() == [{1: 1}] * 3
    for seconds, left in ((60, [{}, {1: 1}, {1: 1}]), (250, [{}, {}, {1: 1}]), (3600, [{}, {}, {}])):
        clock.advance(seconds)
        ledger.tick()
        assert shown() == left


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 2), st.integers(0, 1)), max_size=60))
def test_what_is_none_does_not_matter(steps: list[tuple[int, int, int]]) -> None:
    clock = FakeClock(1000.0)
    ledger, other = Ledger(WINDOWS, clock), Ledger(WINDOWS, clock)
    for wait, some, none in [*steps, (70, 0, 0), (4000, 0, 0)]:
        clock.advance(wait)
        for one in (ledger, other):
            one.tick()
        ledger.add({A: {0: some, 1: none}})
        other.add({A: {at: count for at, count in ((0, some), (1, none)) if count}} if some or none else {})
        for seconds in (60, 300, 3600):
            assert ledger.counts(A, seconds) == other.counts(A, seconds)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=60))
def test_a_window_is_what_was_counted_in_it(steps: list[tuple[int, int]]) -> None:
    clock = FakeClock(1000.0)
    ledger = Ledger(WINDOWS, clock)
    counted: list[tuple[float, int]] = []
    for wait, at in steps:
        clock.advance(wait)
        ledger.tick()
        ledger.add(one(at))
        counted.append((clock.now, at))
        for seconds, width in ((60, 5), (300, 10), (3600, 60)):
            begin, end = clock.now // width * width - seconds, clock.now // 5 * 5
            expected: dict[int, int] = {}
            for when, value in counted:
                if begin <= when < end:
                    expected[value] = expected.get(value, 0) + 1
            assert ledger.counts(A, seconds) == expected
            assert ledger.series(seconds) == ({A} if expected else set())


def test_a_long_silence_leaves_nothing_behind() -> None:
    clock = FakeClock()
    ledger = Ledger(WINDOWS, clock)
    ledger.add(one())
    clock.advance(100_000)
    ledger.tick()
    assert [ledger.series(seconds) for seconds in (60, 300, 3600)] == [set(), set(), set()]


def test_values_are_bounded_and_places_are_free_again() -> None:
    clock = FakeClock(1020.0)
    ledger = Ledger(WINDOWS, clock, values=3)
    for i in range(10):
        ledger.add({("e2e", "tenant", f"t{i}"): {7: 1}, ("e2e", "model", "m"): {7: 1}})
    clock.advance(5)
    ledger.tick()
    assert {value for _, dimension, value in ledger.series(60) if dimension == "tenant"} == {
        "t0",
        "t1",
        "t2",
        OTHER,
    }
    assert ledger.counts(("e2e", "tenant", OTHER), 60) == {7: 7}
    assert ledger.counts(("e2e", "model", "m"), 60) == {7: 10}
    for _ in range(62):
        clock.advance(60)
        ledger.tick()
    assert ledger.series(3600) == set()
    ledger.add({("e2e", "tenant", "t9"): {7: 1}})
    clock.advance(5)
    ledger.tick()
    assert ledger.series(60) == {("e2e", "tenant", "t9")}


def test_packed_comes_back() -> None:
    part: Part = {A: {0: 1, 1100: 2**40}, ("ttft", "tenant", 'q"\n'): {5: 3}}
    assert unpack(pack(part)) == part


@pytest.fixture
def pair(tmp_path: Path) -> tuple[FakeClock, list[Ledger], list[Shelf]]:
    clock = FakeClock(1200.0)
    return (
        clock,
        [Ledger(WINDOWS, clock) for _ in range(2)],
        [Shelf(tmp_path / "s", str(i)) for i in range(2)],
    )


def turn(ledgers: list[Ledger], shelves: list[Shelf]) -> None:
    for ledger, shelf in zip(ledgers, shelves, strict=True):
        shelf.put("latency", ledger.tick())
    for ledger, shelf in zip(ledgers, shelves, strict=True):
        for sealed in shelf.take("latency", ledger.reach):
            ledger.hear(sealed)


def test_workers_hold_the_same_sums(
    pair: tuple[FakeClock, list[Ledger], list[Shelf]], tmp_path: Path
) -> None:
    clock, ledgers, shelves = pair
    for step in range(40):
        ledgers[step % 2].add(one(step % 5))
        clock.advance(5)
        turn(ledgers, shelves)
        for seconds in (60, 300, 3600):
            assert ledgers[0].counts(A, seconds) == ledgers[1].counts(A, seconds)
            assert sum(ledgers[0].counts(A, seconds).values()) == min(step + 1, 60 if seconds > 60 else 12)

    late = Ledger(WINDOWS, clock)  # a worker that starts now, or again, knows the past
    for sealed in Shelf(tmp_path / "s", "2").take("latency", late.reach):
        late.hear(sealed)
    assert all(late.counts(A, seconds) == ledgers[0].counts(A, seconds) for seconds in (60, 300, 3600))
    for _ in range(70):
        clock.advance(60)
        turn(ledgers, shelves)
    assert [ledger.series(3600) for ledger in ledgers] == [set(), set()]
    assert list((tmp_path / "s").iterdir()) == []


def test_a_half_written_slice_is_not_read(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "0")
    (tmp_path / "new.1").write_bytes(b"half")
    assert list(shelf.take("latency", {5: 0, 10: 0, 60: 0})) == []
