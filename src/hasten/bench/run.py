"""A whole benchmark: find the model, probe, warm up, measure one target or two in turns."""

from __future__ import annotations

import asyncio
import gc
import secrets
import signal
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from time import perf_counter

import msgspec

from hasten.bench.arrivals import Budget
from hasten.bench.load import Plan, closed, offer
from hasten.bench.paired import Ratio, compare, schedule
from hasten.bench.record import Record
from hasten.bench.slo import Slo
from hasten.bench.stats import Summary, summarise
from hasten.bench.target import Target, TargetError
from hasten.bench.workload import PROMPTS, Messages, Workload, as_messages


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. ``urls``: one base, or two to compare. Times in seconds."""

    urls: tuple[str, ...]
    plan: Plan
    model: str | None = None
    conversations: list[Messages] = msgspec.field(default_factory=lambda: [as_messages(p) for p in PROMPTS])
    max_tokens: int | None = 64
    temperature: float | None = None
    stream: bool = True
    unique: bool = False
    headers: dict[str, str] = {}
    timeout: float = 300.0
    warmup: int | None = None
    slo: Slo | None = None
    rounds: int = 10


class Round(msgspec.Struct):
    """What one stretch of load brought; ``wall``: seconds from its start to the end of its last request."""

    start: float
    records: list[Record] = []

    @property
    def wall(self) -> float:
        return max((r.end for r in self.records), default=self.start) - self.start


class Side(msgspec.Struct):
    """One target with its model and its rounds."""

    url: str
    model: str
    rounds: list[Round] = []

    @property
    def records(self) -> list[Record]:
        return [record for part in self.rounds for record in part.records]

    def summary(self, slo: Slo | None) -> Summary:
        """Return the figures over all rounds."""
        return summarise(self.records, sum(part.wall for part in self.rounds), slo)


class Result(msgspec.Struct):
    """What came out; ``ratios``: A/B, where two were compared. ``interrupted``: ended early by the user."""

    sides: list[Side]
    ratios: dict[str, Ratio] = {}
    interrupted: bool = False


Watch = Callable[[int, Record], None]


class Bench:
    """Runs one benchmark; ``watch`` is called with the side's number and each record as it is made."""

    def __init__(self, options: Options, watch: Watch = lambda side, record: None) -> None:
        self.options = options
        self.watch = watch
        self.targets: list[Target] = []
        self.sides: list[Side] = []
        self.workloads: list[Workload] = []

    async def run(self) -> Result:
        """Measure. SIGINT ends the measuring early, with what there is so far. Raises :class:`TargetError`."""
        options = self.options
        interrupted = False
        try:
            for url in options.urls:
                await self._prepare(url)
            gc.freeze()  # what is there by now need not be looked at while measuring
            work = asyncio.ensure_future(self._measure())

            def stop() -> None:
                nonlocal interrupted
                interrupted = True
                work.cancel()

            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGINT, stop)
            try:
                await work
            except asyncio.CancelledError:
                if not interrupted:
                    raise
            finally:
                loop.remove_signal_handler(signal.SIGINT)
        finally:
            for target in self.targets:
                target.close()
        result = Result(self.sides, interrupted=interrupted)
        if len(self.sides) == 2:
            a, b = ([summarise(r.records, r.wall, options.slo) for r in side.rounds] for side in self.sides)
            result.ratios = compare(a, b, options.plan.seed)
        return result

    async def _prepare(self, url: str) -> None:
        options = self.options
        target = Target(url, options.headers, options.timeout)
        self.targets.append(target)
        model = options.model
        if model is None:
            listed = await target.models()
            if not listed:
                raise TargetError(f"{target.base}/models lists no model: name a --model")
            model = listed[0]
        work = Workload(
            options.conversations,
            options.max_tokens,
            options.temperature,
            options.stream,
            secrets.token_hex(3) if options.unique else "",
        )
        await target.probe(work.body(model, 0))
        self.sides.append(Side(target.base, model))
        self.workloads.append(work)
        width = options.plan.in_flight
        numbers = count(1)

        async def send(due: float | None) -> None:
            await target.send(work.body(model, next(numbers)))

        warmup = width if options.warmup is None else options.warmup
        await closed(send, width, Budget(warmup))
        work.unique = work.unique and f"{work.unique}x"  # what was asked so far is not asked again

    async def _measure(self) -> None:
        plan = self.options.plan
        if len(self.sides) == 1:
            await self._round(0, plan, count())
            return
        pairs = self.options.rounds
        numbers = (count(), count())
        for pair, side in schedule(pairs):
            await self._round(side, plan.share(pairs, pair), numbers[side])

    async def _round(self, side: int, plan: Plan, numbers: count[int]) -> None:
        target, work, model = self.targets[side], self.workloads[side], self.sides[side].model
        current = Round(perf_counter())
        self.sides[side].rounds.append(current)

        async def send(due: float | None) -> None:
            record = await target.send(work.body(model, next(numbers)), due)
            current.records.append(record)
            self.watch(side, record)

        await offer(plan, send)


def run(options: Options, watch: Watch = lambda side, record: None) -> Result:
    """Run a benchmark on an event loop of its own, uvloop where there is one."""
    factory = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(Bench(options, watch).run())
