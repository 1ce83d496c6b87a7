"""What the windows' percentiles are worth and cost: their error, the CPU time of recording, their memory.

    python bench/percentiles.py [--values 1000000]

The error is against the quantiles of all values (definition 7 of Hyndman & Fan, as ``hasten bench`` has them), of
latencies of three shapes. Recording is measured in process with traces like those of the gateway: streams of eight
tenants, so three values a request in six dimensions.
"""

from __future__ import annotations

import argparse
import random
import time
import tracemalloc
from collections import Counter

from hasten.bench.stats import quantile
from hasten.measure.alike import alike
from hasten.measure.latency import QUANTILES, Latency
from hasten.measure.metrics import BATCH
from hasten.measure.sketch import LEAST, MOST, bucket, quantiles
from hasten.testing import FakeClock
from hasten.trace import Trace

SHAPES = {
    "lognormal": lambda r: r.lognormvariate(-1.6, 0.8),
    "bimodal": lambda r: max(LEAST, r.gauss(0.002, 0.0003) if r.random() < 0.4 else r.gauss(1.5, 0.3)),
    "heavy tail": lambda r: min(MOST, 0.01 * r.paretovariate(1.1)),
}


def accuracy(count: int) -> None:
    for name, shape in SHAPES.items():
        source = random.Random(1)
        values = sorted(shape(source) for _ in range(count))
        found = quantiles(Counter(map(bucket, values)), QUANTILES)
        errors = [abs(x / quantile(values, q) - 1) for q, x in zip(QUANTILES, found, strict=True)]
        shown = ", ".join(f"p{q * 100:g} {error:.2%}" for q, error in zip(QUANTILES, errors, strict=True))
        print(f"{name}, {count:,} values: {shown}")


def traces(count: int, tenants: int) -> list[Trace]:
    source = random.Random(2)
    made = []
    for _ in range(count):
        trace = Trace(0.0, "")
        trace.endpoint, trace.status, trace.model, trace.engine, trace.served_model = (
            "chat",
            200,
            "m",
            "e",
            "m",
        )
        trace.cache, trace.tenant, trace.output_tokens = "miss", f"t{source.randrange(tenants)}", 50
        trace.t_first = source.lognormvariate(-2, 0.5)
        trace.t_last = trace.t_end = trace.t_first + source.lognormvariate(0, 0.5)
        made.append(trace)
    return made


def taken(latency: Latency, some: list[Trace]) -> None:
    for start in range(0, len(some), BATCH):
        for requests in alike(some[start : start + BATCH]):
            latency.take(requests)


def drain(latency: Latency) -> None:
    for _ in latency.fold():
        pass


def cost(rounds: int = 15) -> None:
    some = traces(5000, 8)
    recorded, folded = [], []
    clock = FakeClock()
    latency = Latency(clock)
    for _ in range(rounds):
        before = time.process_time()
        taken(latency, some)
        between = time.process_time()
        drain(latency)
        clock.advance(1)
        latency.ledger.tick()
        recorded.append((between - before) / len(some))
        folded.append((time.process_time() - between) / len(some))
    record, fold = sorted(recorded)[rounds // 2], sorted(folded)[rounds // 2]
    each = (record + fold) / 3
    print(
        f"CPU a request: {record * 1e6:.2f} us in batches of {BATCH}, {fold * 1e6:.2f} us to spread; "
        f"a value {each * 1e6:.2f} us"
    )


def memory(hours: float = 1.1) -> None:
    for tenants in (8, 200):
        clock = FakeClock()
        latency = Latency(clock)
        some = traces(2000, tenants)
        tracemalloc.start()
        for _ in range(int(hours * 720)):
            taken(latency, random.sample(some, 500))
            drain(latency)
            clock.advance(5)
            latency.ledger.tick()
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        names = {series[1:] for series in latency.ledger.series(3600)}
        print(
            f"{tenants} tenants, 100 requests/s for an hour: {used / 2**20:.1f} MiB for {len(names)} values of "
            f"dimensions, {used / len(names) / 1024:.0f} KiB each"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--values", type=int, default=1_000_000)
    args = parser.parse_args()
    accuracy(args.values)
    cost()
    memory()


if __name__ == "__main__":
    main()
