"""Counts finished requests, and shows what all workers have counted."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from time import time

from hasten.anatomy import parts
from hasten.dials import wilson
from hasten.measure import cost
from hasten.measure.effect import route_effect
from hasten.measure.families import FAMILIES, OPERATIONS
from hasten.measure.latency import CALLS, Latency
from hasten.measure.prometheus import render
from hasten.measure.registry import Key, Registry, Value
from hasten.measure.slo import Slo
from hasten.measure.watch import Watch
from hasten.settings import Slo as Settings
from hasten.trace import Trace


class _Call:
    """The histograms of one combination of labels."""

    __slots__ = ("duration", "input", "output", "tpot", "ttft")

    def __init__(self, registry: Registry, labels: tuple[str, ...]) -> None:
        self.duration = registry.histogram("gen_ai_server_request_duration_seconds", *labels)
        self.ttft = registry.histogram("gen_ai_server_time_to_first_token_seconds", *labels)
        self.tpot = registry.histogram("gen_ai_server_time_per_output_token_seconds", *labels)
        self.input = registry.histogram("gen_ai_client_token_usage", *labels, "input")
        self.output = registry.histogram("gen_ai_client_token_usage", *labels, "output")


class Metrics:
    """Counts traces. ``path``: this worker's file among those of all workers; ``None`` for a single one."""

    def __init__(self, path: Path | None = None, worker: str = "0") -> None:
        self.registry = Registry(FAMILIES, path)
        self.worker = worker
        self.latency = Latency()
        self.slo = Slo(Settings())
        self.watch = Watch(self.latency, self.slo)
        self.cost = cost.Cost(self.registry)
        self.gauges: list[Callable[[], None]] = [self._process]
        # Of each request: a look into the registry takes twice as long.
        value, histogram = self.registry.value, self.registry.histogram
        self._answers = cache(lambda endpoint, status: value("hasten_requests_total", endpoint, str(status)))
        self._caches = cache(partial(value, "hasten_cache_requests_total"))
        self._stages = cache(partial(histogram, "hasten_stage_duration_seconds"))
        self._calls: dict[tuple[str, str, str, str], _Call] = {}
        self.gauge("hasten_worker_start_time_seconds", worker).set(time())

    @property
    def folder(self) -> Path | None:
        """Where the workers of a fleet have their files."""
        path = self.registry.path
        return path.parent if path is not None else None

    def gauge(self, name: str, *labels: str) -> Value:
        """Return a gauge or counter of :data:`FAMILIES`."""
        return self.registry.value(name, *labels)

    def record(self, trace: Trace) -> None:
        """Count one finished request."""
        endpoint = trace.endpoint
        self._answers(endpoint, trace.status).add()
        if trace.error is not None:
            self.registry.value("hasten_errors_total", endpoint, trace.error).add()
        if trace.cache and trace.engine:  # a model that nobody knows is no miss
            self._caches(endpoint, trace.cache).add()
        for stage, seconds in parts(trace).items():
            self._stages(stage).observe(seconds)
        if self.slo.budgets is not None and endpoint in CALLS:
            for stage, over in self.slo.budgets.judge(trace).items():
                if over:
                    self.gauge("hasten_budget_overspent_total", stage).add()
        if trace.engine:
            self._record_call(trace)
            self.cost.record(trace)
        self.watch.record(trace)

    def _record_call(self, trace: Trace) -> None:
        key = (trace.endpoint, trace.model, trace.served_model, trace.engine)
        call = self._calls.get(key)
        if call is None:
            operation = OPERATIONS.get(trace.endpoint, trace.endpoint)
            labels = (operation, trace.provider, trace.model, trace.served_model, trace.engine)
            call = _Call(self.registry, labels)
            self._calls[key] = call
        call.duration.observe(trace.duration)
        if trace.ttft is not None:
            call.ttft.observe(trace.ttft)
            tpot = trace.tpot
            if tpot is not None:
                call.tpot.observe(tpot)
        if trace.input_tokens is not None:
            call.input.observe(trace.input_tokens)
        if trace.output_tokens:
            call.output.observe(trace.output_tokens)

    def update_gauges(self) -> None:
        """Write the gauges; called once a second, and before a scrape."""
        for gauge in self.gauges:
            gauge()

    def series(self) -> dict[Key, list[float]]:
        """Return what all workers have counted."""
        self.update_gauges()
        return self.registry.collect()

    def page(self, admin: bool = False) -> bytes:
        """Return the metrics of all workers in Prometheus's text format. ``admin``: tenants may be named."""
        series = self.series() if admin else cost.anonymous(self.series())
        series.update(false_hit_rate(series))
        series.update(route_effect(series))
        series.update(self.latency.series(admin))
        series.update(self.slo.series(admin))
        return render(FAMILIES, series)

    def _process(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.gauge("hasten_worker_cpu_seconds_total", self.worker).set(usage.ru_utime + usage.ru_stime)
        self.gauge("hasten_worker_resident_memory_bytes", self.worker).set(rss_bytes())
        self.gauge("hasten_worker_open_fds", self.worker).set(open_fds())
        self.gauge("hasten_worker_tasks", self.worker).set(len(asyncio.all_tasks()))


def false_hit_rate(series: Mapping[Key, list[float]]) -> dict[Key, list[float]]:
    """Return the measured rate over all workers; none before the first comparison."""
    name = "hasten_cache_compared_total"
    same, different = (int(series.get((name, (verdict,)), [0.0])[0]) for verdict in ("same", "different"))
    if not same + different:
        return {}
    low, high = wilson(different, same + different)
    shown = {"lower": low, "estimate": different / (same + different), "upper": high}
    return {("hasten_cache_false_hit_rate", (bound,)): [value] for bound, value in shown.items()}


def rss_bytes() -> int:
    """Return the resident memory of this process; its peak where the system tells no more."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def open_fds() -> int:
    """Return how many file descriptors this process has open."""
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 0
