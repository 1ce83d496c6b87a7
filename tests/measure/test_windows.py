"""The task that keeps the windows: it shares what it can, and goes on where it cannot."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hasten.measure import windows
from hasten.measure.latency import Latency
from hasten.measure.shelf import Shelf
from hasten.measure.windows import Keeper, keep
from hasten.testing import FakeClock
from tests.gateway import eventually
from tests.measure.taking import take
from tests.measure.test_latency import finished, rows


def counted(latency: Latency) -> None:
    take(latency, finished())
    for _ in latency.fold():
        pass


async def test_two_keepers_share(tmp_path: Path) -> None:
    clock = FakeClock(1020.0)
    workers = [Latency(clock), Latency(clock)]
    keepers = [
        Keeper("latency", worker, Shelf(tmp_path / "slices", str(i))) for i, worker in enumerate(workers)
    ]
    for worker in workers:
        counted(worker)
    for _ in range(10):
        for keeper in keepers:
            await keeper.turn()
        clock.advance(1)
    assert [rows(worker)["all", ""]["e2e"]["n"] for worker in workers] == [2, 2]


async def test_without_its_folder_a_worker_counts_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(1020.0)
    latency = Latency(clock)
    keeper = Keeper("latency", latency, Shelf(tmp_path / "slices", "0"))
    shutil.rmtree(tmp_path / "slices")
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            counted(latency)
            await keeper.turn()
            clock.advance(5)
    assert rows(latency)["all", ""]["e2e"]["n"] == 4
    assert caplog.text.count("not shared") == 1


async def test_one_that_fails_leaves_the_others_going(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = 0

    def fail() -> None:
        nonlocal failed
        failed += 1
        raise OverflowError("too large")

    monkeypatch.setattr(windows, "EVERY", 0.001)
    clock = FakeClock(1020.0)
    bad, good = Latency(clock), Latency(clock)
    monkeypatch.setattr(bad.ledger, "tick", fail)
    folded = Folded(fail)
    task = asyncio.create_task(
        keep([Keeper("bad", bad, None), Keeper("good", good, None)], folded.fold, fail)
    )
    await eventually(lambda: failed >= 6)
    counted(good)
    clock.advance(5)
    await eventually(lambda: ("all", "") in rows(good))
    task.cancel()
    assert folded.steps >= 2
    assert caplog.text.count("windows (bad) are not kept: OverflowError") == 1
    assert caplog.text.count("some requests were not counted") == 1
    assert caplog.text.count("was left out") == 1


class Folded:
    """Fails in the middle, each time."""

    def __init__(self, fail: Callable[[], None]) -> None:
        self.steps = 0
        self._fail = fail

    def fold(self) -> Iterator[None]:
        self.steps += 1
        yield
        self._fail()
