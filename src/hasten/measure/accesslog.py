"""The access log: one JSON line a request, off the hot path, without prompts unless asked.

Traces are queued as they end, encoded a few times a second in slices, and written by a thread of their own, so that
a slow sink delays no request. What does not fit in the queue is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from hasten.settings import Log
from hasten.trace import Trace

FLUSH_EVERY = 0.25  # seconds
SLICE = 200  # lines encoded at a stretch: about a millisecond


class Line(msgspec.Struct, omit_defaults=True):
    """What is logged of a request; durations in milliseconds. Nothing of its texts unless asked, no header."""

    time: str
    id: str
    endpoint: str
    status: int
    duration_ms: float
    model: str = ""
    served_model: str = ""
    engine: str = ""
    stream: bool = False
    attempts: int = 0
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    cache: str = ""
    cache_why: str = ""
    route: str = ""
    complexity: float | None = None
    side: str = ""
    reasons: list[str] = []
    discarded: list[tuple[str, int, int]] = []
    stages_ms: dict[str, float] = {}
    request: str | None = None
    answer: str | None = None


def entry(trace: Trace) -> Line:
    """Return the line for ``trace``."""
    ttft, tpot = trace.ttft, trace.tpot
    line = Line(
        time=_clock(trace.wall),
        id=trace.id,
        endpoint=trace.endpoint,
        status=trace.status,
        duration_ms=_ms(trace.duration),
        model=trace.model if trace.engine else "",
        served_model=trace.served_model if trace.served_model != trace.model else "",
        engine=trace.engine,
        stream=trace.stream,
        attempts=trace.attempts,
        ttft_ms=None if ttft is None else _ms(ttft),
        tpot_ms=None if tpot is None else _ms(tpot),
        input_tokens=trace.input_tokens,
        output_tokens=trace.output_tokens,
        cached_tokens=trace.cached_tokens,
        finish_reason=trace.finish_reason,
        error=trace.error,
        cache=trace.cache,
        cache_why=trace.cache_why,
        route=trace.way,
        complexity=None if trace.complexity is None else round(trace.complexity, 4),
        side=trace.side,
        reasons=trace.reasons,
        discarded=trace.discarded,
        stages_ms={stage: _ms(seconds) for stage, seconds in trace.spans},
    )
    if trace.transcript is not None:
        line.request, line.answer = trace.transcript.texts()
    return line


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _clock(wall: float) -> str:
    """Return RFC 3339 with milliseconds; the date is worked out once a second."""
    second = int(wall)
    return f"{_second(second)}.{int((wall - second) * 1000):03d}Z"


class AccessLog:
    """Writes traces to ``settings.path`` or standard output."""

    def __init__(self, settings: Log, on_drop: Callable[[], None] = lambda: None) -> None:
        self.settings = settings
        self._on_drop = on_drop
        self._pending: deque[Trace] = deque()
        self._sent = 0  # lines given to the thread; the loop's
        self._written = 0  # lines that the thread is through with; the thread's
        self._blocks: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        self._fd = self._open()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, name="hasten-access-log", daemon=True)
        self._thread.start()

    def add(self, trace: Trace) -> None:
        """Queue one finished request."""
        if len(self._pending) + self._sent - self._written >= self.settings.max_pending:
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
        path = self.settings.path
        # Opening a FIFO for writing waits for its reader; for both, it does not.
        mode = os.O_RDWR if os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode) else os.O_WRONLY
        return os.open(path, mode | os.O_APPEND | os.O_CREAT, 0o640)

    def _flush(self) -> None:
        self._encode()
        self._timer = self._loop.call_later(0.002 if self._pending else FLUSH_EVERY, self._flush)
        if not self._pending:
            self._timer.cancel()
            self._timer = None

    def _encode(self) -> None:
        count = min(SLICE, len(self._pending))
        lines = [msgspec.json.encode(entry(self._pending.popleft())) for _ in range(count)]
        self._sent += count
        self._blocks.put((b"\n".join(lines) + b"\n", count))

    def _write(self) -> None:
        while (block := self._blocks.get()) is not None:
            data, count = block
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:  # a full disk, a closed pipe
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
                    self._loop.call_soon_threadsafe(self._dropped, count)
            self._written += count
        os.close(self._fd)

    def _dropped(self, count: int) -> None:
        for _ in range(count):
            self._on_drop()

    def __repr__(self) -> str:
        return f"<AccessLog {self.settings.path or 'stdout'} {len(self._pending)} pending>"
