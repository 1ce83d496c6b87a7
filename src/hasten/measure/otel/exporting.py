"""The part of the child that makes spans and sends them. Needs the extra ``otel``."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

import msgspec
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from hasten.measure.otel.frames import Batch, Setup, Told, trace_of
from hasten.measure.otel.spans import Spans, resource_of

MOST = 512  # spans that are sent at once
EVERY = 1.0  # seconds that a span waits for others

_decode_batch = msgspec.msgpack.Decoder(Batch).decode


def exporter_of(setup: Setup) -> SpanExporter:
    """Return an exporter to the collector."""
    return OTLPSpanExporter(setup.endpoint, headers=setup.headers)


class Exporting:
    """Takes batches as the worker sent them, sends spans, tells of it."""

    def __init__(self, setup: Setup, exporter: SpanExporter, tell: Callable[[Told], None]) -> None:
        self.queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._exporter = exporter
        self._resource = resource_of(setup.service_name, setup.attributes)
        self._tell = tell
        self._spans: list[ReadableSpan] = []
        self._requests = 0
        self._due = 0.0

    def run(self) -> None:
        """Work until the queue brings ``None``."""
        while (data := self._next()) is not None:
            batch = _decode_batch(data)
            for values in batch.records:
                if not self._requests:
                    self._due = time.monotonic() + EVERY
                self._spans += Spans(trace_of(values), batch.epoch, batch.engines, self._resource)
                self._requests += 1
                if len(self._spans) >= MOST:
                    self._send()
        self._send()

    def _next(self) -> bytes | None:
        while self._requests:
            try:
                return self.queue.get(timeout=max(0.0, self._due - time.monotonic()))
            except Empty:
                self._send()
        return self.queue.get()

    def _send(self) -> None:
        count, self._requests = self._requests, 0
        spans, self._spans = self._spans, []
        if spans:
            good = self._exporter.export(spans) is SpanExportResult.SUCCESS
            self._tell(Told(exported=count) if good else Told(failed=count))
