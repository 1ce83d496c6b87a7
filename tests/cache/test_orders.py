"""Orders to the caches of several workers: what one is told, all have done before they look anything up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hasten.board import Board
from hasten.cache.orders import Invalidate, Learn, Order, Orders, Purge
from hasten.cache.report import Look, Report
from hasten.cache.store.memory import MemoryStore
from hasten.testing import Script, ScriptedUpstream
from tests.cache.stores import Clock, digest, entry
from tests.cache.test_stage import cached


class Caches:
    """The caches of two workers with a board between them."""

    def __init__(self, folder: Path, size: int = 4096) -> None:
        self.path = folder / "orders"
        self.stores = [MemoryStore(1 << 20, Clock()) for _ in range(2)]
        self.reports = [Report() for _ in range(2)]
        self.orders = [
            Orders(store, None, report, Board(self.path, size))
            for store, report in zip(self.stores, self.reports, strict=True)
        ]

    async def fill(self, *names: str, tenant: str = "acme") -> None:
        for store, report in zip(self.stores, self.reports, strict=True):
            for name in names:
                await store.put(entry(name, tenant=tenant, tags=("all", f"tenant:{tenant}", f"tag:{name}")))
            report.add(Look(tenant, "asked", "stored", 1.0, "hit", ""))

    async def held(self, name: str) -> list[bool]:
        """Return which worker would answer from its cache."""
        for orders in self.orders:
            if orders.waiting:
                await orders.catch_up()
        return [await store.get(digest(name)) is not None for store in self.stores]


@pytest.fixture
def caches(tmp_path: Path) -> Iterator[Caches]:
    made = Caches(tmp_path)
    yield made
    for orders in made.orders:
        orders.close()


async def test_an_order_to_one_is_carried_out_by_all(caches: Caches) -> None:
    await caches.fill("a", "b")
    assert not caches.orders[1].waiting
    await caches.orders[0].give(Invalidate(["tag:a"]))
    assert caches.orders[1].waiting
    assert not caches.orders[0].waiting  # its own order is no news to it
    assert await caches.held("a") == [False, False]
    assert await caches.held("b") == [True, True]
    assert [orders.turn for orders in caches.orders] == [1, 1]
    await caches.orders[1].give(Invalidate(["tag:b"]))
    assert await caches.held("b") == [False, False]


async def test_a_purge_leaves_nothing_anywhere(caches: Caches) -> None:
    await caches.fill("a", "b")
    await caches.fill("c", tenant="other")
    assert await caches.orders[0].give(Purge("acme")) == 2
    await caches.orders[1].catch_up()
    assert [store.stats().entries for store in caches.stores] == [1, 1]
    assert await caches.held("c") == [True, True]
    assert [len(report.view()["looks"]) for report in caches.reports] == [1, 1]


async def test_orders_cross(caches: Caches) -> None:
    await caches.fill("a", "b", "c")
    await caches.orders[0].give(Invalidate(["tag:a"]))
    await caches.orders[1].give(Invalidate(["tag:b"]))  # before it has heard of the other
    for name, held in (("a", False), ("b", False), ("c", True)):
        assert await caches.held(name) == [held, held]


@pytest.mark.parametrize("tags", [[f"tag:{i}" for i in range(200)], ["x" * 5000]], ids=["many", "long"])
async def test_who_missed_something_forgets_everything(caches: Caches, tags: list[str]) -> None:
    await caches.fill("a")
    for tag in tags:
        await caches.orders[0].give(Invalidate([tag]))
    assert await caches.held("a") == [True, False]
    assert caches.reports[1].view()["looks"] == []
    await caches.fill("a")
    assert await caches.held("a") == [True, False]  # what was asked before is not kept
    await caches.orders[1].give(Invalidate(["tag:a"]))  # and the two go on
    assert await caches.held("a") == [False, False]


async def test_a_late_worker_hears_of_what_comes(caches: Caches) -> None:
    await caches.orders[0].give(Invalidate(["tag:a"]))
    late = Orders(MemoryStore(1 << 20), None, Report(), Board(caches.path, 4096))
    assert not late.waiting
    await caches.orders[0].give(Invalidate(["tag:a"]))
    assert late.waiting
    late.close()
    assert not late.waiting


@pytest.mark.parametrize("size", [64, 4096])
def test_messages_come_whole_and_in_order(tmp_path: Path, size: int) -> None:
    one, other = Board(tmp_path / "b", size), Board(tmp_path / "b", size)
    heard = []
    for number in range(300):
        assert one.tell(f"message {number}".encode()) == []
        assert not other.quiet
        if number % 3 == 2:
            heard += other.read() or []
            assert other.quiet
    one.close()
    other.close()
    assert heard == [f"message {number}".encode() for number in range(300)]


TALK = """
import sys
from pathlib import Path
from hasten.board import Board
board = Board(Path(sys.argv[1]))
for number in range(1000):
    board.tell(f"{sys.argv[2]} {number}".encode())
"""


def test_processes_do_not_talk_into_each_other(tmp_path: Path) -> None:
    board = Board(tmp_path / "b")
    talkers = [subprocess.Popen([sys.executable, "-c", TALK, str(tmp_path / "b"), name]) for name in "xy"]
    heard: list[bytes] = []
    while any(talker.poll() is None for talker in talkers) or not board.quiet:
        heard += board.read() or []
        time.sleep(0.001)
    board.close()
    for name in "xy":
        assert [line for line in heard if line.startswith(name.encode())] == [
            f"{name} {number}".encode() for number in range(1000)
        ]


class Taught:
    """What an order needs of the semantic cache."""

    def __init__(self) -> None:
        self.learnt: list[tuple[bytes, bool]] = []

    async def feedback(self, key: bytes, right: bool) -> bool:
        self.learnt.append((key, right))
        return True


async def test_feedback_finds_the_worker_that_has_the_entry(caches: Caches) -> None:
    taught = [Taught(), Taught()]
    for orders, semantic in zip(caches.orders, taught, strict=True):
        orders._semantic = semantic  # type: ignore[assignment]
    await caches.stores[1].put(entry("a"))
    given: list[tuple[Order, int]] = [
        (Learn(digest("a"), False, None), 1),
        (Learn(digest("a"), True, "acme"), 1),
        (Learn(digest("a"), False, "other"), 0),
    ]
    for order, _ in given:
        assert await caches.orders[0].give(order) == 0
        assert caches.orders[0].scattered
    await caches.orders[1].catch_up()
    assert taught[0].learnt == []
    assert taught[1].learnt == [(digest("a"), False), (digest("a"), True)]
    for order, met in given:
        assert await caches.orders[1].give(order) == met


async def test_a_call_in_flight_is_not_shared_after_an_invalidation() -> None:
    async with ScriptedUpstream(Script(ttft=0.3)) as up, cached(up) as gw:
        before = asyncio.create_task(gw.chat())
        while not up.requests:
            await asyncio.sleep(0.01)
        await gw.http.post("/admin/cache/invalidate", json={"all": True})
        up.script = Script(tokens=("New",))
        assert "New" in (await gw.chat()).text
        assert "Paris" in (await before).text
        assert "New" in (await gw.chat()).text
