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

import msgspec

from hasten.measure.record import record_of
from hasten.settings import Log
from hasten.trace import Trace

FLUSH_EVERY = 0.25  # seconds
SLICE = 200  # lines encoded at a stretch: about a millisecond


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
        lines = [msgspec.json.encode(record_of(self._pending.popleft())) for _ in range(count)]
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
