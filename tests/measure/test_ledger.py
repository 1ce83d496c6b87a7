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
    clock = FakeClock(1000.0)  # where slices of 5 and 10 seconds begin
    ledger = Ledger(WINDOWS, clock)
    ledger.add(one())
    ledger.tick()
    assert ledger.total(60) == {}  # not over yet
    clock.advance(5)
    assert [(s.width, s.slot) for s in ledger.tick()] == [(5, 200)]
    assert ledger.total(60) == one()
    assert ledger.total(300) == {}
    clock.advance(5)
    ledger.tick()
    assert ledger.total(300) == one()
    clock.advance(55)
    ledger.tick()
    assert (ledger.total(60), ledger.total(300), ledger.total(3600)) == ({}, one(), one())
    clock.advance(250)
    ledger.tick()
    assert (ledger.total(300), ledger.total(3600)) == ({}, one())
    clock.advance(3600)
    ledger.tick()
    assert ledger.total(3600) == {}


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
            end = clock.now // width * width
            expected: dict[int, int] = {}
            for when, value in counted:
                if end - seconds <= when < end:
                    expected[value] = expected.get(value, 0) + 1
            assert ledger.total(seconds).get(A, {}) == expected


def test_a_long_silence_leaves_nothing_behind() -> None:
    clock = FakeClock()
    ledger = Ledger(WINDOWS, clock)
    ledger.add(one())
    clock.advance(100_000)
    ledger.tick()
    assert [ledger.total(seconds) for seconds in (60, 300, 3600)] == [{}, {}, {}]


def test_values_are_bounded_and_places_are_free_again() -> None:
    clock = FakeClock(1020.0)
    ledger = Ledger(WINDOWS, clock, values=3)
    for i in range(10):
        ledger.add({("e2e", "tenant", f"t{i}"): {7: 1}, ("e2e", "model", "m"): {7: 1}})
    clock.advance(5)
    ledger.tick()
    total = ledger.total(60)
    assert {value for _, dimension, value in total if dimension == "tenant"} == {"t0", "t1", "t2", OTHER}
    assert total["e2e", "tenant", OTHER] == {7: 7}
    assert total["e2e", "model", "m"] == {7: 10}
    for _ in range(62):
        clock.advance(60)
        ledger.tick()
    assert ledger.total(3600) == {}
    ledger.add({("e2e", "tenant", "t9"): {7: 1}})
    clock.advance(5)
    ledger.tick()
    assert list(ledger.total(60)) == [("e2e", "tenant", "t9")]


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
            assert ledgers[0].total(seconds) == ledgers[1].total(seconds)
    assert sum(ledgers[0].total(60)[A].values()) == 12
    late = Ledger(WINDOWS, clock)  # a worker that starts now, or again, knows the past
    for sealed in Shelf(tmp_path / "s", "2").take("latency", late.reach):
        late.hear(sealed)
    assert all(late.total(seconds) == ledgers[0].total(seconds) for seconds in (60, 300, 3600))
    for _ in range(70):
        clock.advance(60)
        turn(ledgers, shelves)
    assert ledgers[0].total(3600) == ledgers[1].total(3600) == {}
    assert list((tmp_path / "s").iterdir()) == []


def test_a_half_written_slice_is_not_read(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "0")
    (tmp_path / "new.1").write_bytes(b"half")
    assert list(shelf.take("latency", {5: 0, 10: 0, 60: 0})) == []
