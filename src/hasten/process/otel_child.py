"""The process that exports spans: ``python -m hasten.process.otel_child``, frames on standard input.

One thread reads, so that the worker can always write; another one converts and sends, and is the only one that a slow
collector holds up. How much may wait is the worker's to say: it counts what it was told of here. When standard input
ends, the worker is gone or ending: what is left is sent within :data:`LAST` seconds.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import BinaryIO

import msgspec
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from hasten.measure.otel.frames import LENGTH, Batch, Setup, Told, trace_of
from hasten.measure.otel.spans import Spans, resource_of
from hasten.process.logs import set_up_logging

MOST = 512  # spans that are sent at once
EVERY = 1.0  # seconds that a span waits for others
LAST = 1.0
NICENESS = 10  # requests go first
COMPLAIN = 60.0  # seconds between two lines about a collector that does not take spans

_decode_batch = msgspec.msgpack.Decoder(Batch).decode


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


class Seldom(logging.Filter):
    """Lets one line of the exporter's a minute through, of those that tell of a failure: it has one for each batch."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        if not record.name.startswith("opentelemetry"):
            return record.levelno >= logging.WARNING
        if record.levelno < logging.ERROR or now < self._next:
            return False
        self._next = now + COMPLAIN
        return True


def read_frame(source: BinaryIO) -> bytes:
    """Return the next frame's content; nothing at the end."""
    head = source.read(LENGTH)
    size = int.from_bytes(head, "little")
    data = source.read(size) if len(head) == LENGTH else b""
    return data if len(data) == size else b""


def main() -> None:
    """Export until standard input ends."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints
    os.nice(NICENESS)
    set_up_logging()
    for handler in logging.getLogger().handlers:
        handler.addFilter(Seldom())
    first = read_frame(sys.stdin.buffer)
    if not first:
        return
    setup = msgspec.msgpack.decode(first, type=Setup)
    exporter = OTLPSpanExporter(setup.endpoint, headers=setup.headers)
    exporting = Exporting(setup, exporter, lambda told: _tell(out, told))
    threading.excepthook = _give_up
    thread = threading.Thread(target=exporting.run, name="hasten-otel", daemon=True)
    thread.start()
    while data := read_frame(sys.stdin.buffer):
        exporting.queue.put(data)
    exporting.queue.put(None)
    thread.join(LAST)


def _give_up(args: threading.ExceptHookArgs) -> None:
    """End with the thread: the worker starts another process."""
    threading.__excepthook__(args)
    os._exit(1)


def _tell(out: int, told: Told) -> None:
    os.write(out, msgspec.json.encode(told) + b"\n")


if __name__ == "__main__":
    main()
