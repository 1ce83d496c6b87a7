"""Counts finished requests, and shows what all workers have counted."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import time

from hasten.dials import wilson
from hasten.errors import FAULTS
from hasten.measure import cost
from hasten.measure.alike import Alike, alike
from hasten.measure.effect import route_effect
from hasten.measure.families import FAMILIES, OPERATIONS
from hasten.measure.latency import Latency
from hasten.measure.prometheus import render
from hasten.measure.registry import Key, Registry, Value
from hasten.measure.slo import Slo
from hasten.measure.watch import Watch
from hasten.settings import Slo as Settings
from hasten.trace import Trace

log = logging.getLogger("hasten.measure")

#: Requests that are counted together. That takes a third of what it takes one by one, as between two requests all of it
#: would leave the processor's caches, and less than a millisecond at a stretch.
BATCH = 32


class Metrics:
    """Counts traces. ``path``: this worker's file among those of all workers; ``None`` for a single one."""

    def __init__(self, path: Path | None = None, worker: str = "0") -> None:
        self.registry = Registry(FAMILIES, path)
        self.worker = worker
        self.latency = Latency()
        self.slo = Slo(Settings(), on_overspent=self._overspent)
        self.watch = Watch(self.latency, self.slo)
        self.cost = cost.Cost(self.registry)
        self.gauges: list[Callable[[], None]] = [self._process]
        self.first: Callable[[], None] = lambda: None  # told when requests wait to be counted: to flush soon
        self.after: Callable[[list[Trace]], None] = lambda traces: None  # gets requests when they are counted
        self._taken: list[Trace] = []
        self._failed = False  # and told of
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
        """Take one finished request; it is counted with others, by :meth:`flush`."""
        self._taken.append(trace)
        if len(self._taken) == 1:
            self.first()
        elif len(self._taken) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Count what was taken until now; to be called soon after :attr:`first`, and before anybody looks."""
        taken, self._taken = self._taken, []
        for requests in alike(taken):
            try:
                self._count(requests)
                self.cost.take(requests)
                self.watch.take(requests)
            except FAULTS as exc:  # the others, and whoever waits for an answer, have nothing to do with it
                if not self._failed:
                    log.warning("%r are not counted in full: %r", requests, exc)
                self._failed = True
        self.after(taken)

    def fold(self) -> Iterator[None]:
        """Give all that was taken to the windows, a stretch at each step; to be done a few times a second."""
        self.flush()
        yield
        yield from self.latency.fold()

    def _count(self, requests: Alike) -> None:
        value, histogram, endpoint = self.registry.value, self.registry.histogram, requests.endpoint
        value("hasten_requests_total", endpoint, str(requests.status)).add(len(requests))
        if requests.error is not None:
            value("hasten_errors_total", endpoint, requests.error).add(len(requests))
        for stage, seconds in requests.stages.items():
            histogram("hasten_stage_duration_seconds", stage).observe(seconds)
        if not requests.engine:  # a model that nobody knows is no miss
            return
        if requests.cache:
            value("hasten_cache_requests_total", endpoint, requests.cache).add(len(requests))
        operation = OPERATIONS.get(endpoint, endpoint)
        labels = (operation, requests.provider, requests.model, requests.served_model, requests.engine)
        histogram("gen_ai_server_request_duration_seconds", *labels).observe(requests.e2e)
        if requests.ttft:
            histogram("gen_ai_server_time_to_first_token_seconds", *labels).observe(requests.ttft)
        if requests.tpot:
            histogram("gen_ai_server_time_per_output_token_seconds", *labels).observe(requests.tpot)
        given = [trace.input_tokens for trace in requests.traces if trace.input_tokens is not None]
        said = [trace.output_tokens for trace in requests.traces if trace.output_tokens]
        for kind, tokens in (("input", given), ("output", said)):
            if tokens:
                histogram("gen_ai_client_token_usage", *labels, kind).observe(tokens)

    def _overspent(self, stage: str, count: int) -> None:
        if count:
            self.gauge("hasten_budget_overspent_total", stage).add(count)

    def update_gauges(self) -> None:
        """Write the gauges; called once a second, and before a scrape."""
        for gauge in self.gauges:
            gauge()

    def series(self, *names: str) -> dict[Key, list[float]]:
        """Return what all workers have counted, of the metrics whose names begin with one of ``names``; of all, if
        there are none. What other workers have not counted yet is missing: some milliseconds."""
        self.flush()
        self.update_gauges()
        return self.registry.collect(names or ("",))

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
