"""The task that keeps the windows: it shares what it can, and goes on where it cannot."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from hasten.measure.latency import Latency
from hasten.measure.shelf import Shelf
from hasten.measure.windows import Keeper
from hasten.testing import FakeClock
from tests.measure.test_latency import finished, rows


async def test_two_keepers_share(tmp_path: Path) -> None:
    clock = FakeClock(1020.0)
    workers = [Latency(clock), Latency(clock)]
    keepers = [
        Keeper("latency", worker, Shelf(tmp_path / "slices", str(i))) for i, worker in enumerate(workers)
    ]
    for worker in workers:
        worker.record(finished())
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
            latency.record(finished())
            await keeper.turn()
            clock.advance(5)
    assert rows(latency)["all", ""]["e2e"]["n"] == 4
    assert caplog.text.count("not shared") == 1
