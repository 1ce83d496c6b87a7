"""What the dashboard's data cost: CPU time of counting and keeping requests, their memory, the page's JSON.

    python bench/watch.py

Measured in process with traces like those of the gateway: streams of six stages, 1,000 a second, for a bit over an hour
by a clock that is moved. Times are the CPU's, of this thread.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec

from hasten.anatomy import parts
from hasten.measure.alike import alike
from hasten.measure.latency import Latency
from hasten.measure.metrics import BATCH
from hasten.measure.overview import EngineSeen, Overview
from hasten.measure.registry import Reader, Slots, merge
from hasten.measure.slo import Slo
from hasten.measure.watch import Watch
from hasten.measure.windows import Recorder
from hasten.settings import Slo as Objectives
from hasten.testing import FakeClock
from hasten.trace import Trace, new_id

CLOCK = FakeClock(10_000.0)
HOUR = Objectives(ttft_p95_ms=200, tpot_p95_ms=30, e2e_p95_ms=2000, errors=0.01)


def traces(count: int) -> list[Trace]:
    source = random.Random(2)
    made = []
    for _ in range(count):
        trace = Trace(0.0, new_id())
        trace.endpoint, trace.status, trace.stream, trace.attempts = "chat", 200, True, 1
        trace.model, trace.engine, trace.served_model = "assistant", "vllm-a", "qwen3-8b"
        trace.cache, trace.cache_why, trace.tenant = "miss", "no candidate", f"team-{source.randrange(8)}"
        trace.input_tokens, trace.output_tokens, trace.cached_tokens = 900, 50, 400
        trace.route = "easy"
        asked = 0.002 * source.random()
        trace.t_first = asked + source.lognormvariate(-2, 0.5)
        trace.t_last = trace.t_end = trace.t_first + source.lognormvariate(0, 0.5)
        trace.spans = [
            ("accept", 0.0, asked / 4),
            ("cache", asked / 4, asked / 2),
            ("route", asked / 2, asked * 0.6),
            ("upstream", asked, trace.t_first),
        ]
        parts(trace)
        made.append(trace)
    return made


def taken(recorder: Recorder | Watch, some: list[Trace]) -> None:
    for start in range(0, len(some), BATCH):
        for requests in alike(some[start : start + BATCH]):
            recorder.take(requests)


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def cost(some: list[Trace], rounds: int = 15) -> None:
    for name in ("traffic", "exemplars"):
        took = []
        for _ in range(rounds):
            recorder = getattr(Watch(Latency(CLOCK), Slo(HOUR, CLOCK), CLOCK), name)
            before = time.thread_time()
            for start in range(0, len(some), 250):  # a quarter of a second each
                taken(recorder, some[start : start + 250])
                CLOCK.advance(0.25)
                recorder.ledger.tick()
            took.append((time.thread_time() - before) / len(some))
        print(f"{name}: {min(took) * 1e6:.2f} us CPU a request, {middle(took) * 1e6:.2f} in the middle")


def spent(action: Callable[[], Any], rounds: int = 30, before: Callable[[], Any] = lambda: None) -> str:
    took = []
    for _ in range(rounds):
        before()
        start = time.thread_time()
        action()
        took.append(time.thread_time() - start)
    return f"{middle(took) * 1e3:.2f} ms, at most {max(took) * 1e3:.2f} ms"


def page(watch: Watch) -> None:
    slots = Slots()
    for i in range(600):
        slots.reserve(("gen_ai_server_request_duration_seconds", (f"m{i}", "e")), 16)
    for i in range(40):
        slots.reserve(("hasten_cache_requests_total", ("chat", f"o{i}")), 1)
    file = slots.snapshot()

    readers = [Reader() for _ in range(4)]

    def series(*names: str) -> Any:
        return merge([reader.read(file, names) for reader in readers])

    engines = [EngineSeen(f"e{i}", "vllm", "ok", None) for i in range(4)]
    overview = Overview(watch, series, lambda: engines, True, lambda tenant: None)

    def show() -> bytes:
        return msgspec.json.encode(overview.view(None))

    def moved() -> None:
        watch._windows = None
        watch.history._encoded = None

    print(f"{len(watch.history._columns['t'])} points; the page: {len(show()) / 1024:.0f} KiB")
    print(f"a poll when nothing is new: {spent(show)}; when all is: {spent(show, before=moved)}")
    print(
        f"of that history: {spent(watch.history.view, before=moved)}; windows: {spent(watch.windows, before=moved)}"
    )
    print(f"counts of four workers, 640 series each: {spent(lambda: series('hasten_cache_'))}")
    print(f"objectives: {spent(lambda: watch.slo.view(None))}")
    print(f"a point: {spent(watch.history._point)}")
    for near in ("slowest", "p95"):
        query = f"window=1h&near={near}".encode()
        print(f"search, {near}: {spent(lambda query=query: watch.exemplars.search(query, None))}")


def hour(some: list[Trace]) -> Watch:
    watch = Watch(Latency(CLOCK), Slo(HOUR, CLOCK), CLOCK)
    most = 0.0
    for _ in range(3700):
        taken(watch, random.sample(some, 30))
        for _ in watch.latency.fold():
            pass
        CLOCK.advance(1)
        for keeper in (watch.latency, watch.slo, watch.traffic):
            keeper.ledger.tick()
        before = time.thread_time()
        watch.exemplars.ledger.tick()
        most = max(most, time.thread_time() - before)
        watch.history.tick()
    print(f"sealing kept requests: at most {most * 1e3:.2f} ms at a stretch")
    return watch


def memory(some: list[Trace]) -> None:
    for name in ("traffic", "exemplars"):
        watch = Watch(Latency(CLOCK), Slo(HOUR, CLOCK), CLOCK)
        recorder = getattr(watch, name)
        tracemalloc.start()
        for _ in range(370):
            for _ in range(10):
                taken(recorder, random.sample(some, 100))
                CLOCK.advance(1)
                recorder.ledger.tick()
        print(f"memory after an hour, {name}: {tracemalloc.get_traced_memory()[0] / 2**20:.2f} MiB")
        tracemalloc.stop()


def main() -> None:
    some = traces(5000)
    cost(some)
    page(hour(some))
    memory(some)


if __name__ == "__main__":
    main()
