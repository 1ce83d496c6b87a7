"""The access log: one JSON line a request, off the hot path, without prompts unless asked.

Traces are queued as they end, encoded a few times a second in slices, and written by a thread of their own, so that
a slow sink delays no request. What does not fit in the queue is dropped and counted.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from hasten.settings import Log
from hasten.trace import Trace

FLUSH_EVERY = 0.25  # seconds
SLICE = 200  # lines encoded at a stretch: about a millisecond


def entry(trace: Trace) -> dict[str, Any]:
    """Return what is logged of a request; durations in milliseconds. Nothing of its texts, no header."""
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(trace.wall, UTC).isoformat(timespec="milliseconds"),
        "id": trace.id,
        "endpoint": trace.endpoint,
        "status": trace.status,
        "duration_ms": _ms(trace.duration),
    }
    if trace.engine:
        line["model"] = trace.served_model
        line["engine"] = trace.engine
        line["stream"] = trace.stream
        line["attempts"] = trace.attempts
    if trace.ttft is not None:
        line["ttft_ms"] = _ms(trace.ttft)
    if trace.tpot is not None:
        line["tpot_ms"] = _ms(trace.tpot)
    for name in ("input_tokens", "output_tokens", "cached_tokens", "finish_reason", "error"):
        value = getattr(trace, name)
        if value is not None:
            line[name] = value
    for name in ("cache", "route", "reasons"):
        value = getattr(trace, name)
        if value:
            line[name] = value
    if trace.spans:
        line["stages_ms"] = {stage: _ms(seconds) for stage, seconds in trace.spans}
    if trace.transcript is not None:
        line["request"], line["answer"] = trace.transcript.texts()
    return line


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


class AccessLog:
    """Writes traces to ``settings.path`` or standard output."""

    def __init__(self, settings: Log, on_drop: Callable[[], None] = lambda: None) -> None:
        self.settings = settings
        self._on_drop = on_drop
        self._pending: deque[Trace] = deque()
        self._in_thread = 0
        self._blocks: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        self._fd = self._open()
        self._thread = threading.Thread(target=self._write, name="hasten-access-log", daemon=True)
        self._thread.start()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def add(self, trace: Trace) -> None:
        """Queue one finished request."""
        if len(self._pending) + self._in_thread >= self.settings.max_pending:
            self._on_drop()
            return
        self._pending.append(trace)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_EVERY, self._flush)

    def close(self, timeout: float = 1.0) -> None:
        """Write what is queued, for ``timeout`` seconds at the most."""
        if self._timer is not None:
            self._timer.cancel()
        while self._pending:
            self._encode()
        self._blocks.put(None)
        self._thread.join(timeout)

    def _open(self) -> int:
        if self.settings.path is None:
            return os.dup(sys.stdout.fileno())
        return os.open(self.settings.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def _flush(self) -> None:
        self._encode()
        self._timer = self._loop.call_later(0.002 if self._pending else FLUSH_EVERY, self._flush)
        if not self._pending:
            self._timer.cancel()
            self._timer = None

    def _encode(self) -> None:
        count = min(SLICE, len(self._pending))
        lines = [msgspec.json.encode(entry(self._pending.popleft())) for _ in range(count)]
        self._in_thread += count
        self._blocks.put((b"\n".join(lines) + b"\n", count))

    def _write(self) -> None:
        while (block := self._blocks.get()) is not None:
            data, count = block
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:  # a full disk, a closed pipe
                for _ in range(count):
                    self._on_drop()
            self._in_thread -= count
        os.close(self._fd)

    def __repr__(self) -> str:
        return f"<AccessLog {self.settings.path or 'stdout'} {len(self._pending)} pending>"
