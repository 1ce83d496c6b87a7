"""Asks engines for their own metrics, every few seconds, apart from the requests' connections.

Each engine has a task of its own, so one that is frozen delays nobody. What fails is counted and tried again; who
answers with something else is left alone for a while.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from time import time
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from hasten.engines.http import Pool, tls_context
from hasten.engines.load import PHASES, WINDOW, Load, Reader
from hasten.engines.openai import OpenAIEngine
from hasten.errors import EngineError, EngineProtocol, EngineStatus, EngineTimeout, tell_end
from hasten.settings import Timeouts
from hasten.types import Headers

log = logging.getLogger("hasten.engines")

EVERY = 2.0  # seconds from one look to the next
SELDOM = 60.0  # ... at an address that has no such page
TIMEOUT = 1.0  # seconds that a look may take
MAX_PAGE = 2 * 1024 * 1024  # bytes
_LIMITS = Timeouts(connect=TIMEOUT, first_byte=TIMEOUT, idle=TIMEOUT)

#: Gauges of a load's numbers, by its field.
GAUGES = {
    "running": "hasten_engine_running",
    "waiting": "hasten_engine_waiting",
    "kv_usage": "hasten_engine_kv_usage",
    "cached_share": "hasten_engine_cached_share",
    "at": "hasten_engine_load_time_seconds",
}
SECONDS = "hasten_engine_reported_seconds"
FAILED = "hasten_engine_load_failed_total"


class Value(Protocol):
    """A gauge or counter of the metrics."""

    def set(self, value: float) -> None:
        """Be ``value``; not a number: unknown."""

    def add(self, amount: float = 1.0) -> None:
        """Count ``amount`` more."""


@runtime_checkable
class Getter(Protocol):
    """An engine that fetches pages in its own way."""

    async def get(self, url: str, headers: Mapping[str, str], limit: int) -> bytes:
        """Return the body of a 200, of ``limit`` bytes at most.

        Raises :class:`~hasten.errors.EngineError`; :class:`ValueError`: there is no such address.
        """


def address(engine: OpenAIEngine) -> str | None:
    """Return where the engine's page is; ``None`` while it is nowhere."""
    given, base = engine.settings.metrics, engine.base_url
    if isinstance(given, str):
        return given
    return None if base is None else "{0.scheme}://{0.netloc}/metrics".format(urlsplit(base))


def headers(engine: OpenAIEngine, url: str) -> dict[str, str]:
    """Return the headers to send; the engine's own, with its key, only to where its requests go too."""
    made = {"accept": "text/plain", "accept-encoding": "identity", "user-agent": "hasten"}
    base = urlsplit(engine.base_url or "")
    if urlsplit(url)[:2] == base[:2]:
        settings = engine.settings
        if settings.api_key is not None:
            made["authorization"] = f"Bearer {settings.api_key.reveal()}"
        made |= {name.lower(): value.reveal() for name, value in settings.headers.items()}
    return made


class Poller:
    """Watches the engines whose settings say so. ``former``: whose watches go on where the settings are the same."""

    def __init__(
        self,
        engines: Mapping[str, OpenAIEngine],
        gauge: Callable[..., Value],
        former: Poller | None = None,
    ) -> None:
        self._gauge = gauge
        self._watches: dict[str, Watch] = {}
        for name, engine in engines.items():
            if not engine.settings.metrics:
                continue
            old = former._watches.get(name) if former is not None else None
            if former is not None and old is not None and old.engine.settings == engine.settings:
                self._watches[name] = former._watches.pop(name)
                self._watches[name].engine = engine
            else:
                self._watches[name] = Watch(engine, gauge)

    @property
    def loads(self) -> dict[str, Load]:
        """What the engines said within the last :data:`~hasten.engines.load.WINDOW` seconds, by their names."""
        now = time()
        found = {name: watch.load for name, watch in self._watches.items()}
        return {name: load for name, load in found.items() if load is not None and fresh(load, now)}

    def show(self) -> None:
        """Write the gauges; of an engine that says nothing any more they are unknown."""
        loads = self.loads
        for name in self._watches:
            self._write(name, loads.get(name))

    def _write(self, name: str, load: Load | None) -> None:
        for field, gauge in GAUGES.items():
            self._gauge(gauge, name).set(_number(load, field))
        for phase in PHASES:
            self._gauge(SECONDS, name, phase).set(_number(load, phase))

    def close(self) -> None:
        """Stop looking."""
        for name, watch in self._watches.items():
            watch.close()
            self._write(name, None)

    def __repr__(self) -> str:
        return f"<Poller of {', '.join(self._watches) or 'nobody'}>"


def fresh(load: Load, now: float) -> bool:
    """Whether a load is of use at ``now``, Unix seconds."""
    return now - load.at <= WINDOW


def _number(load: Load | None, field: str) -> float:
    value = None if load is None else getattr(load, field)
    return math.nan if value is None else float(value)


def from_gauges(series: Mapping[tuple[str, tuple[str, ...]], list[float]]) -> dict[str, Load]:
    """Return what another worker has written by :meth:`Poller.show`, by the engines' names."""
    now = time()
    found: dict[str, Load] = {}
    for (name, labels), (at, *_) in series.items():
        if name == GAUGES["at"] and now - at <= WINDOW:
            keys = {field: (gauge, labels) for field, gauge in GAUGES.items()}
            keys |= {phase: (SECONDS, (*labels, phase)) for phase in PHASES}
            found[labels[0]] = Load(**{field: series[key][0] for field, key in keys.items() if key in series})
    return found


class Watch:
    """Looks at one engine's page, again and again. ``load``: what it said last."""

    def __init__(self, engine: OpenAIEngine, gauge: Callable[..., Value]) -> None:
        self.engine = engine
        self.load: Load | None = None
        self._gauge = gauge
        self._reader = Reader()
        self._trouble = ""  # the last look's
        self._pools: dict[str, Pool] = {}
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"the watch of {engine.name}")
        self._task.add_done_callback(tell_end)

    async def _run(self) -> None:
        while True:
            url = address(self.engine)
            await asyncio.sleep(EVERY if url is None else await self._look(url))

    async def _look(self, url: str) -> float:
        """Look once; return how long to wait then, seconds."""
        wait, reason = EVERY, ""
        try:
            async with asyncio.timeout(TIMEOUT):
                page = await self._get(url)
            # In a thread: a large page takes as long as hundreds of events.
            load = await asyncio.to_thread(self._reader.read, page.decode("utf-8", "replace"))
            if load is not None:
                self.load = load
            else:
                wait, reason = SELDOM, "unknown"
        except TimeoutError:
            reason = EngineTimeout.code
        except EngineError as exc:
            reason = exc.code or exc.type
            if isinstance(exc, EngineStatus | EngineProtocol):
                wait = SELDOM
        except (OverflowError, ValueError):  # an address that is none, numbers that cannot be counted with
            wait, reason = SELDOM, "unknown"
        if reason:
            self._gauge(FAILED, self.engine.name, reason).add()
            if reason != self._trouble and wait == SELDOM:  # else it comes and goes with the engine
                log.warning("the engine %s has no metrics at %s: %s", self.engine.name, url, reason)
        self._trouble = reason
        return wait

    async def _get(self, url: str) -> bytes:
        engine = self.engine
        if isinstance(engine, Getter):
            return await engine.get(url, headers(engine, url), MAX_PAGE)
        parts = urlsplit(url)
        pool = self._pools.get(parts.netloc)
        if pool is None:
            secure = parts.scheme == "https"
            context = tls_context(engine.settings.tls) if secure else None
            pool = Pool(parts.hostname or "", parts.port or (443 if secure else 80), context, _LIMITS)
            self._pools = {parts.netloc: pool}
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # No kept connection: it would be a guess each time whether the engine keeps it as long.
        lines = [f"GET {target} HTTP/1.1", f"host: {parts.netloc}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers(engine, url).items()]
        connection = await pool.connect()
        try:
            answer = _Answer()
            connection.send("\r\n".join([*lines, "", ""]).encode("latin-1"), answer)
            return await answer.body
        finally:
            connection.abort()

    def close(self) -> None:
        """Stop looking."""
        self._task.cancel()

    def __repr__(self) -> str:
        return f"<Watch of {self.engine.name}: {self._trouble or self.load}>"


class _Answer:
    """Receives one page."""

    def __init__(self) -> None:
        self.body: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._parts: list[bytes] = []
        self._size = 0

    def on_head(self, status: int, headers: Headers) -> None:
        if status != 200:
            self.on_error(EngineStatus(status))

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_PAGE:
            self.on_error(EngineProtocol(f"the page is larger than {MAX_PAGE} bytes"))
        else:
            self._parts.append(data)

    def on_complete(self) -> None:
        if not self.body.done():
            self.body.set_result(b"".join(self._parts))

    def on_error(self, error: EngineError) -> None:
        if not self.body.done():
            self.body.set_exception(error)
