"""The request log: a record a request, off the hot path, without prompts unless asked.

What is to be told of requests is queued as they end. A thread of the log's own writes it a few times a second, so that
a slow sink delays no request; records with texts, and those that a hook sees, it also makes. Python runs one thread at
a time, so the thread works in short stretches and sleeps in between. What does not fit in the queue, cannot be written
or may not be is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter, sleep
from typing import Any

import msgspec

from hasten.errors import FAULTS
from hasten.hooks import hook
from hasten.measure.record import Record, record_of
from hasten.measure.sinks import open_sink
from hasten.settings import Log
from hasten.trace import Trace, Transcript

log = logging.getLogger("hasten.log")

FLUSH_EVERY = 0.25  # seconds
STRETCH = 0.0003  # seconds of work, about, before the interpreter is left to the requests
PAUSE = 0.0005  # seconds for which it is
BLOCK = 256 * 1024  # bytes written at a time
TRACE_BYTES = 2048  # that a trace without texts holds, about

LAST = {"jsonl": 1.0, "parquet": 10.0}  # seconds to write what is held at the end: of Parquet a whole file

#: Why a record was dropped. Of a ``redaction`` that failed only the texts were.
REASONS = ("slow", "failed", "redacted", "redaction")

#: Counts records that were dropped: (reason, how many).
OnDrop = Callable[[str, int], None]


class RequestLog:
    """Writes traces as ``settings`` say. Raises :class:`~hasten.errors.SettingsError` where that is not possible."""

    def __init__(self, settings: Log, on_drop: OnDrop = lambda reason, count: None) -> None:
        self.settings = settings
        self._on_drop = on_drop
        self._redact = hook(settings.redact) if settings.redact is not None else None
        self._warned = self._failed = False
        self._pending: deque[tuple[bytes | Trace, Transcript | None, int]] = deque()
        # Each is written by one thread alone: no lock is needed.
        self._taken = self._taken_bytes = 0  # the loop's
        self._through = self._through_bytes = 0  # the thread's: it is done with as many
        self._encode = msgspec.json.Encoder().encode
        self._sink = open_sink(settings)
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hasten-request-log", daemon=True)
        self._thread.start()

    def add(self, trace: Trace) -> None:
        """Queue one finished request, and take its texts: others keep the trace, and for longer.

        What has no texts is encoded at once: that takes half of what it would take later, when the trace has left the
        processor's caches.
        """
        kept, trace.transcript = trace.transcript, None
        size = TRACE_BYTES if kept is None else TRACE_BYTES + kept.size
        held = self._taken_bytes - self._through_bytes + size
        if self._taken - self._through >= self.settings.max_pending or held > self.settings.max_pending_bytes:
            self._on_drop("slow" if self._thread.is_alive() else "failed", 1)
            return
        told: bytes | Trace = trace
        if kept is None and self._redact is None:
            line = self._line(trace, None)
            if line is None:
                return
            told = line
        self._taken += 1
        self._taken_bytes += size
        self._pending.append((told, kept, size))

    def close(self, timeout: float | None = None) -> None:
        """Write what is queued, for ``timeout`` seconds at the most (:data:`LAST`); blocks."""
        self._stop.set()
        self._thread.join(LAST[self.settings.format] if timeout is None else timeout)

    # -- the thread

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_EVERY):
            self._drain()
            self._do(self._sink.tick)
        self._drain()
        self._do(self._sink.close)

    def _drain(self) -> None:
        while self._pending:
            lines: list[bytes] = []
            count = size = written = 0
            # A backlog is worked off in longer stretches: requests wait for each other then anyway.
            until = perf_counter() + STRETCH * (1 + len(self._pending) // 1000)
            while self._pending and written < BLOCK:
                told, kept, held = self._pending.popleft()
                count += 1
                size += held
                line = told if isinstance(told, bytes) else self._line(told, kept)
                if line is not None:
                    lines.append(line)
                    written += len(line)
                if perf_counter() >= until:
                    break
            if lines:
                self._do(partial(self._sink.write, lines), len(lines))
            self._through += count
            self._through_bytes += size
            if self._pending and not self._stop.is_set():
                sleep(PAUSE)

    def _line(self, trace: Trace, kept: Transcript | None) -> bytes | None:
        """Return the record as JSON, ``None`` if it is not to be written."""
        try:
            record: Record | None = record_of(trace, kept)
            if self._redact is not None:
                record = self._redacted(self._redact, record)
            return None if record is None else self._encode(record)
        except FAULTS as exc:  # one that cannot be told must not end the log
            self._fault(exc, 1)
            return None

    def _redacted(self, redact: Callable[..., Any], record: Record | None) -> Record | None:
        with contextlib.suppress(Exception):  # the function is somebody else's and may raise anything
            try:
                found = redact(msgspec.to_builtins(record))
                if found is not None:
                    return msgspec.convert(found, Record)
                self._lost("redacted", 1)
                return None
            except Exception as exc:
                self._warn(type(exc).__name__)  # no more of it: its text may hold some of a prompt
                raise
        self._lost("redaction", 1)
        if record is not None:
            record.request = record.answer = None
        return record

    def _warn(self, error: str) -> None:
        if not self._warned:
            self._warned = True
            what = self.settings.redact
            log.warning("log.redact: %s failed (%s); texts are left out where it does", what, error)

    def _do(self, work: Callable[[], int], records: int = 0) -> None:
        """Let the sink work; ``records`` are lost if it raises what it should not."""
        try:
            self._lost("failed", work())
        except FAULTS as exc:
            self._fault(exc, records)

    def _fault(self, exc: BaseException, records: int) -> None:
        if not self._failed:
            self._failed = True
            # No more of it: its text may hold some of a prompt.
            log.warning("the request log goes on without some records: %s", type(exc).__name__)
        self._lost("failed", records)

    def _lost(self, reason: str, count: int) -> None:
        if count:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
                self._loop.call_soon_threadsafe(self._on_drop, reason, count)

    def __repr__(self) -> str:
        return f"<RequestLog {self._sink!r}, {self._taken - self._through} pending>"
