"""The worker's end of the export of spans: a child process that does the work, and an account of what became of it.

Finished requests are queued, encoded a few times a second in slices, and written to the child's standard input by a
transport that never blocks. Requests that the child has and has not told of count as waiting, too: so nothing grows
without bound, whatever holds the child or the collector up, and what is dropped is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import deque
from collections.abc import Callable
from functools import cache, partial

import msgspec

from hasten.engines.managed import Backoff
from hasten.errors import FAULTS, tell_end
from hasten.measure.metrics import Metrics
from hasten.measure.otel import frames
from hasten.measure.otel.sampling import Sampler
from hasten.settings import Otel
from hasten.trace import Trace

log = logging.getLogger("hasten.otel")

FLUSH_EVERY = 0.25  # seconds
SLICE = 100  # requests encoded at a stretch: about a millisecond
GRACE = 3.0  # seconds that the child has to end


_decode_told = msgspec.json.Decoder(frames.Told).decode


class Exporter:
    """Exports what is recorded by ``settings``. ``engines``: where each is, asked for with each slice.

    =========== ==================================================================
    ``slow``    ``max_pending`` requests waited already for the collector
    ``down``    they did while there was no child, or the child that had it ended
    ``failed``  the collector refused, could not be reached, or took too long; or they
                cannot be encoded
    =========== ==================================================================
    """

    def __init__(self, settings: Otel, metrics: Metrics, engines: Callable[[], frames.Engines]) -> None:
        self.settings = settings
        self.begin = Sampler(settings.sample).begin
        self._exported = metrics.gauge("hasten_otel_exported_total")
        self._dropped = cache(partial(metrics.gauge, "hasten_otel_dropped_total"))
        self._engines = engines
        self._pending: deque[Trace] = deque()
        self._warned = False
        self._sent = 0  # requests that the child has and has not told of
        self._process: asyncio.subprocess.Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False
        self._closing = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the child; returns at once."""
        self._keeper = self._loop.create_task(self._keep(), name="the task that exports spans")
        self._keeper.add_done_callback(tell_end)

    def add(self, trace: Trace) -> None:
        """Queue one finished request."""
        if len(self._pending) + self._sent >= self.settings.max_pending:
            self._dropped("down" if self._process is None else "slow").add()
            return
        self._pending.append(trace)
        if self._timer is None and self._process is not None:
            self._timer = self._loop.call_later(FLUSH_EVERY, self._flush)

    async def close(self) -> None:
        """Hand over what is queued, and let the child end."""
        self._closing.set()
        if self._timer is not None:
            self._timer.cancel()
        while self._pending and self._encode():
            pass
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        if self._keeper is not None:
            await asyncio.wait([self._keeper], timeout=GRACE)
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
            await asyncio.wait([self._keeper])
        self._lose(len(self._pending))
        self._pending.clear()

    def _flush(self) -> None:
        self._timer = None
        if self._encode() and self._pending:
            self._timer = self._loop.call_later(0.002, self._flush)

    def _encode(self) -> bool:
        """Give the child a slice; returns whether there is a child that takes it."""
        stdin = self._process.stdin if self._process is not None else None
        if stdin is None or stdin.is_closing():
            return False
        count = min(SLICE, len(self._pending))
        if count:
            traces = [self._pending.popleft() for _ in range(count)]
            try:
                data = frames.batch(traces, self._engines())
            except FAULTS as exc:
                if not self._warned:
                    log.warning("the spans of %d requests cannot be encoded: %s", count, type(exc).__name__)
                self._warned = True
                self._dropped("failed").add(count)
            else:
                self._sent += count
                stdin.write(data)
        return True

    async def _keep(self) -> None:
        """Start the child again whenever it ends, more slowly each time."""
        backoff = Backoff(first=0.2, most=30.0, stable=30.0)
        while not self._closing.is_set():
            try:
                process = await self._spawn()
            except OSError as exc:
                why = f"cannot be started: {exc.strerror}"
            else:
                backoff.ready()
                self._process = process
                self._flush()
                await self._listen(process)
                why = f"ended with status {await process.wait()}"
                self._process = None
                self._lose(self._sent)
                self._sent = 0
            if not self._closing.is_set():
                wait = backoff.failed()
                log.warning("the process that exports spans %s; the next one is started in %.1f s", why, wait)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), wait)

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hasten.process.otel_child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # No session of its own: Linux shares a core out by sessions first, whatever the priorities in them.
        )
        assert process.stdin is not None
        process.stdin.write(frames.setup(self.settings))
        if self._closing.is_set():
            process.stdin.close()
        return process

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Count what the child tells, until it ends; one that cannot be understood is ended."""
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                self._hear(_decode_told(line))
        except ValueError as exc:
            log.warning("the process that exports spans said what cannot be understood: %s", exc)
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    def _hear(self, told: frames.Told) -> None:
        self._sent -= told.exported + told.failed
        if told.exported:
            self._exported.add(told.exported)
        if told.failed:
            self._dropped("failed").add(told.failed)
            if not self._failing:
                endpoint = self.settings.endpoint or "of OTEL_EXPORTER_OTLP_*"
                log.warning("the collector %s takes no spans: they are dropped, and counted", endpoint)
        if told.exported or told.failed:
            self._failing = told.failed > 0

    def _lose(self, count: int) -> None:
        if count:
            self._dropped("down").add(count)

    def __repr__(self) -> str:
        return f"<Exporter {len(self._pending)} pending, {self._sent} at the child>"
