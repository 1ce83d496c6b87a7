"""Micro-batching: in order, in growing batches, and nobody is left waiting."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from hasten.cache.semantic.batcher import Batcher, Busy, Failed


class Model:
    """Doubles numbers, a batch at a time, as soon as it is let; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.started = threading.Event()
        self.go.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.started.set()
        assert self.go.wait(10)
        self.batches.append(list(items))
        if -1 in items:
            raise ArithmeticError("x")
        if -2 in items:
            return []
        return [2 * item for item in items]


@asynccontextmanager
async def running(model: Model, size: int = 16, waiting: int = 128) -> AsyncIterator[Batcher[int, int]]:
    executor = ThreadPoolExecutor(1)
    yield Batcher(model, executor, size, waiting)
    model.go.set()
    executor.shutdown()


async def started(model: Model) -> None:
    while not model.started.is_set():
        await asyncio.sleep(0.001)


async def test_results_come_in_the_items_order() -> None:
    async with running(Model(), size=3) as batcher:
        assert await batcher(list(range(10))) == list(range(0, 20, 2))
        assert await batcher([7]) == [14]
        assert batcher.idle


async def test_batches_grow_while_the_model_is_busy() -> None:
    model = Model()
    async with running(model, size=4) as batcher:
        model.go.clear()
        tasks = [asyncio.create_task(batcher([i])) for i in range(10)]
        await started(model)
        await asyncio.sleep(0)
        assert not batcher.idle
        model.go.set()
        assert await asyncio.gather(*tasks) == [[2 * i] for i in range(10)]
    assert [len(b) for b in model.batches] == [1, 4, 4, 1]


async def test_busy_at_the_limit() -> None:
    model = Model()
    async with running(model, waiting=3) as batcher:
        model.go.clear()
        tasks = [asyncio.create_task(batcher([i])) for i in range(4)]  # one runs, three wait
        await started(model)
        with pytest.raises(Busy):
            await batcher([9])
        with pytest.raises(Busy):
            await batcher([1, 2, 3, 4])
        model.go.set()
        assert len(await asyncio.gather(*tasks)) == 4
        assert await batcher([5]) == [10]


@pytest.mark.parametrize("bad", [-1, -2])
async def test_a_models_failure_is_its_batchs_and_what_comes_after_is_well(bad: int) -> None:
    model = Model()
    async with running(model, size=2) as batcher:
        model.go.clear()
        tasks = [asyncio.create_task(batcher([i])) for i in (1, bad, 2, 3)]
        await started(model)
        model.go.set()
        made = await asyncio.gather(*tasks, return_exceptions=True)
        assert made[0] == [2]
        assert isinstance(made[1], Failed)
        assert isinstance(made[2], Failed)
        assert made[3] == [6]
        assert batcher.idle


async def test_all_are_answered_whoever_leaves() -> None:
    rng = random.Random(1)
    model = Model()
    async with running(model, size=4) as batcher:
        for _ in range(30):
            items = [[rng.randrange(99) for _ in range(rng.randrange(1, 4))] for _ in range(12)]
            tasks = [asyncio.create_task(batcher(given)) for given in items]
            await asyncio.sleep(0)
            for task in tasks:
                if rng.random() < 0.4:
                    task.cancel()
            made = await asyncio.gather(*tasks, return_exceptions=True)
            for given, got in zip(items, made, strict=True):
                assert isinstance(got, asyncio.CancelledError) or got == [2 * i for i in given]
        async with asyncio.timeout(5):
            assert await batcher([1]) == [2]
        assert batcher.idle


async def test_what_nobody_waits_for_is_not_computed() -> None:
    model = Model()
    async with running(model) as batcher:
        model.go.clear()
        first = asyncio.create_task(batcher([1]))
        await started(model)
        second = asyncio.create_task(batcher([2]))
        await asyncio.sleep(0)
        second.cancel()
        model.go.set()
        assert await first == [2]
        assert await batcher([3]) == [6]
    assert model.batches == [[1], [3]]


async def test_closing_fails_those_who_wait_but_calls_nobody_off() -> None:
    model = Model()
    executor = ThreadPoolExecutor(1)
    batcher = Batcher(model, executor, size=1)
    model.go.clear()
    executor.submit(model.go.wait, 10)  # so that the batch waits in the executor and is cancelled there
    tasks = [asyncio.create_task(batcher([i])) for i in range(3)]
    await asyncio.sleep(0)
    executor.shutdown(wait=False, cancel_futures=True)
    model.go.set()
    made = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(m) for m in made] == [Failed] * 3
    with pytest.raises(Failed):
        await batcher([1])
