"""Micro-batching: what waits while the model is busy is its next batch.

No timer and no fixed window: a lone item starts at once, under load the batches grow by themselves up to ``size``. The
model runs on one thread, off the event loop (ONNX Runtime gives the interpreter lock free while it computes).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class Busy(Exception):
    """More waits than the model can do in good time."""


class Failed(RuntimeError):
    """The model could not do it, whatever its runtime raised (``__cause__``), or it is closed."""


class Batcher(Generic[Item, Made]):
    """Runs ``run(items) -> results`` on ``executor`` for items given one by one.

    At most ``size`` items a batch; at most ``waiting`` items wait, more raise :class:`Busy`. ``cost``: seconds that
    an item took of late, by ``clock``.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Made]],
        executor: ThreadPoolExecutor,
        size: int = 16,
        waiting: int = 128,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.cost = 0.0
        self._run = run
        self._executor = executor
        self._size = size
        self._limit = waiting
        self._clock = clock
        self._waiting: deque[tuple[Item, asyncio.Future[Made]]] = deque()
        self._running = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self._running

    async def __call__(self, items: Sequence[Item]) -> list[Made]:
        """Return the results of ``items``, in their order; they may run with others'. Raises :class:`Failed`."""
        if len(self._waiting) + len(items) > self._limit:
            raise Busy
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Made]] = [loop.create_future() for _ in items]
        self._waiting.extend(zip(items, futures, strict=True))
        if not self._running:
            self._start(loop)
        return list(await asyncio.gather(*futures)) if len(futures) > 1 else [await futures[0]]

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[tuple[Item, asyncio.Future[Made]]] = []
        while self._waiting and len(batch) < self._size:
            item, future = self._waiting.popleft()
            if not future.done():  # who waited may have gone
                batch.append((item, future))
        if not batch:
            self._running = False
            return
        try:
            job = loop.run_in_executor(self._executor, self._work, [item for item, _ in batch])
        except RuntimeError:  # the executor is shut down
            self._running = False
            rest, self._waiting = [*batch, *self._waiting], deque()
            _fail(rest, Failed("closed"))
            return
        self._running = True
        job.add_done_callback(lambda done: self._finish(loop, batch, done))

    def _work(self, items: Sequence[Item]) -> tuple[Sequence[Made], float]:
        """Run a batch, on the executor's thread; return the results and the seconds it took."""
        since = self._clock()
        return self._run(items), self._clock() - since

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[Item, asyncio.Future[Made]]],
        done: asyncio.Future[tuple[Sequence[Made], float]],
    ) -> None:
        cause = None if done.cancelled() else done.exception()
        if done.cancelled():  # the executor, not those who wait: their tasks go on
            _fail(batch, Failed("closed"))
        elif cause is not None:
            error = Failed(type(cause).__name__)
            error.__cause__ = cause
            _fail(batch, error)
        elif len((made := done.result())[0]) != len(batch):
            _fail(batch, Failed(f"{len(made[0])} results for {len(batch)} items"))
        else:
            results, seconds = made
            self.cost += (seconds / len(batch) - self.cost) / (8 if self.cost else 1)
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        self._start(loop)

    def __repr__(self) -> str:
        return f"<Batcher {len(self._waiting)} waiting{' running' * self._running}>"


def _fail(items: Sequence[tuple[object, asyncio.Future[Made]]], error: Failed) -> None:
    for _, future in items:
        if not future.done():
            future.set_exception(error)
