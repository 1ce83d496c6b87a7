"""The two ways to offer load.

The closed loop keeps a number of requests in flight: each answer lets the next one go. The open loop sends when
requests are due, whatever became of the ones before, and each counts its latency from when it was due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter

import msgspec

from hasten.bench.arrivals import Arrival, Budget, arrivals

#: Sends one request that was due at the given time (``None``: now). Never raises for what the target does.
Send = Callable[[float | None], Awaitable[None]]
Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class Plan(msgspec.Struct, frozen=True):
    """How much load and for how long.

    Without ``rate`` the loop is closed with ``concurrency`` in flight (default 4). With ``rate`` (requests/s) it is
    open, and ``concurrency`` bounds what is in flight; what waits for a place is late already.
    """

    concurrency: int | None = None
    requests: int | None = None
    seconds: float | None = None
    rate: float | None = None
    arrival: Arrival = "poisson"
    seed: int = 0

    @property
    def in_flight(self) -> int:
        """The closed loop's width."""
        return self.concurrency or 4

    def share(self, parts: int, part: int) -> Plan:
        """Return the plan of one of ``parts`` rounds; every ``part`` has arrival times of its own."""
        return msgspec.structs.replace(
            self,
            requests=None if self.requests is None else max(1, round(self.requests / parts)),
            seconds=None if self.seconds is None else self.seconds / parts,
            seed=self.seed * 1_000_003 + part,
        )


async def offer(plan: Plan, send: Send, clock: Clock = perf_counter, sleep: Sleep = asyncio.sleep) -> None:
    """Offer the planned load through ``send`` and return when the last request has ended."""
    budget = Budget(plan.requests, plan.seconds)
    if plan.rate is None:
        await closed(send, plan.in_flight, budget, clock)
    else:
        due = arrivals(plan.arrival, plan.rate, plan.seed)
        await open_loop(send, due, budget, plan.concurrency, clock, sleep)


async def closed(send: Send, concurrency: int, budget: Budget, clock: Clock = perf_counter) -> None:
    """Keep ``concurrency`` requests in flight until the budget is used up."""
    start = clock()

    async def worker() -> None:
        while budget.take(clock() - start):
            await send(None)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())


async def open_loop(
    send: Send,
    due: Iterator[float],
    budget: Budget,
    concurrency: int | None = None,
    clock: Clock = perf_counter,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Send at every ``due`` time (seconds from now) until the budget is used up."""
    start = clock()
    places = asyncio.Semaphore(concurrency) if concurrency else None

    async def one(at: float) -> None:
        if places is None:
            await send(at)
        else:
            async with places:
                await send(at)

    async with asyncio.TaskGroup() as group:
        for offset in due:
            if not budget.take(offset):
                return
            await sleep(max(0.0, start + offset - clock()))  # gives way even when late
            group.create_task(one(start + offset))
