"""The cache stage: what is known is answered, what is being asked is shared, the rest goes on and is kept.

The order of a look-up: exact key, a call in flight, another wording (canonical form, then embedding and verifier). A
store or verifier that fails is passed by, with a counted reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from math import inf
from time import perf_counter, time
from typing import Any

import msgspec

from hasten.budget import NO_BUDGET, budgets_of, skipped
from hasten.cache import control as controls
from hasten.cache import recording
from hasten.cache.asked import Asked
from hasten.cache.coalesce import Flight, Form
from hasten.cache.control import Control, unwanted
from hasten.cache.entry import Entry
from hasten.cache.key import Fingerprint, Keys
from hasten.cache.orders import Orders
from hasten.cache.recording import AtEnd
from hasten.cache.replay import replay
from hasten.cache.report import Report
from hasten.cache.semantic.policy import SemanticCache
from hasten.cache.store.base import Ready
from hasten.cache.store.memory import MemoryStore
from hasten.errors import HastenError, StoreError
from hasten.settings import Settings
from hasten.tokens import Said, fill
from hasten.trace import Trace
from hasten.types import Handler, Reply, Request

log = logging.getLogger("hasten.cache")

#: Counts ``amount`` of a metric with labels: (name, labels, amount).
Count = Callable[[str, tuple[str, ...], float], None]
_HURRY = (
    b"x-hasten-deadline-ms",
    b"x-hasten-slo-ttft-ms",
)  # who cannot wait may be answered by a weaker model
MAX_RENEWALS = 64  # answers renewed in the background at a time


class CacheStage:
    """One worker's cache under one configuration.

    ``clock``: Unix seconds. ``paid``: takes the record of a request that no client waits for.
    """

    def __init__(
        self,
        settings: Settings,
        store: Ready,
        semantic: SemanticCache | None,
        count: Count,
        report: Report,
        orders: Orders | None = None,
        clock: Callable[[], float] = time,
        paid: Callable[[Trace], None] = lambda trace: None,
    ) -> None:
        self.settings = settings.cache
        self.keys = Keys(settings)
        self.store = store
        self.semantic = semantic
        self.report = report
        self.orders = orders or Orders(store, semantic, report)
        self._count = count
        self._clock = clock
        self._budgets = budgets_of(settings.slo)
        # Whether the store does I/O; what is in memory takes microseconds.
        self._waits = not isinstance(store, MemoryStore)
        self._paid = paid
        self._flights: dict[Form, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing: set[bytes] = set()

    async def __call__(self, request: Request, next: Handler) -> Reply:
        since = perf_counter()
        trace = request.trace
        control = controls.read(request.headers)
        why = unwanted(request, control, self.settings)
        if why is None and not self.settings.exact and self.semantic is None and not self.settings.coalesce:
            why = "off"
        if why is not None:
            return await self._pass_by(request, next, why)
        if self.orders.waiting:
            await self.orders.catch_up()
        semantic = self.semantic is not None and not control.exact_only
        try:
            found = self.keys.of(request)
        except (ValueError, msgspec.MsgspecError):
            # In an unknown field, that the engine may know what to do with.
            return await self._pass_by(request, next, "unreadable")
        form = self._form(request, control, found.key)
        if not control.refresh:
            reply = await self._exact(request, next, control, found, since) if self.settings.exact else None
            if reply is not None:
                return reply
            while (flight := self._flights.get(form)) is not None:
                trace.cache, trace.cache_why = "coalesced", "the same request was in flight"
                reply = await flight.wait()
                if reply is None:
                    trace.cache = trace.cache_why = ""
                    continue
                _as_hit(trace, flight.trace.served_model or request.model)
                trace.route = flight.trace.route  # a fallback's answer says so to all
                trace.span("cache", since)
                return reply
        found.locate(semantic)
        asked = Asked(request, control, found, self.keys.group(trace.tenant))
        return await self._lead(request, next, asked, form, since)

    async def _pass_by(self, request: Request, next: Handler, why: str) -> Reply:
        request.trace.cache, request.trace.cache_why = "bypass", why
        self._count("hasten_cache_bypassed_total", (why,), 1)
        return await next(request)

    # -- exact

    async def _exact(
        self, request: Request, next: Handler, control: Control, found: Fingerprint, since: float
    ) -> Reply | None:
        try:
            if self._budgets is None or not self._waits:
                entry = await self.store.get(found.key)
            else:
                entry = await self._get(found.key, request.trace, since)
        except StoreError as exc:
            self._trouble(exc)
            return None
        if entry is None or not self._young(entry, control):
            return None
        reply = replay(entry, request)
        if reply is None:
            return None
        if self._clock() >= entry.expires:
            found.locate(self.semantic is not None and not control.exact_only)
        why = "exact key" + self._renew(request, next, found, entry)
        return self._hit(request, entry, reply, "exact", why, since)

    async def _get(self, key: bytes, trace: Trace, since: float) -> Entry | None:
        """Return the entry of a key, as far as a store that does I/O says it within what the budget leaves."""
        left = self._left(trace, since)
        if left >= self.settings.store_timeout:
            return await self.store.get(key)
        if left > 0:
            try:
                async with asyncio.timeout(left):
                    return await self.store.get(key)
            except TimeoutError:
                pass
        self._count("hasten_cache_bypassed_total", ("budget",), 1)
        self._skipped(trace)
        return None

    def _left(self, trace: Trace, since: float) -> float:
        """Return the seconds that the request's budget leaves for the cache."""
        return inf if self._budgets is None else self._budgets.left(trace, "cache", since)

    def _skipped(self, trace: Trace) -> None:
        trace.cache_why = NO_BUDGET
        skipped(trace, "cache", self._count)

    def _young(self, entry: Entry, control: Control) -> bool:
        now = self._clock()
        if control.max_age is not None and now - entry.created > control.max_age:
            return False
        return now < entry.expires or now < entry.stale_until

    def _hit(self, request: Request, entry: Entry, reply: Reply, kind: str, why: str, since: float) -> Reply:
        trace = request.trace
        age = max(0, int(self._clock() - entry.created))
        reply.headers.append((b"age", b"%d" % age))
        trace.cache = kind
        trace.cache_why = f"{why}; stored {age} s ago by {entry.engine}"
        trace.input_tokens, trace.output_tokens = entry.input_tokens, entry.output_tokens
        trace.estimated = entry.estimated
        trace.finish_reason = entry.finish_reason
        _as_hit(trace, entry.model)
        self._count("hasten_cache_saved_seconds_total", (), entry.took)
        self._count("hasten_cache_saved_tokens_total", ("input",), entry.input_tokens or 0)
        self._count("hasten_cache_saved_tokens_total", ("output",), entry.output_tokens or 0)
        trace.span("cache", since)
        return reply

    # -- a miss

    async def _lead(self, request: Request, next: Handler, asked: Asked, form: Form, since: float) -> Reply:
        flight = Flight(request, form, self._flights, self.settings.max_entry_bytes)
        if self.settings.coalesce:
            self._flights[form] = flight
        try:
            reply = None
            if asked.found.scope is not None and self.semantic is not None:
                reply = await self._other_wording(self.semantic, next, asked, since)
            if reply is None:
                reply = await self._ask(next, asked, flight, since)
        except BaseException as exc:
            flight.failed(exc)
            raise
        flight.landed(reply)
        return reply

    def _form(self, request: Request, control: Control, key: bytes) -> Form:
        """Return the key, how the answer travels, which answers will do (a leader may be served another wording's),
        and the turn: what was asked before an invalidation is not shared."""
        hurried = any(name in request.headers for name in _HURRY)
        travels = (request.stream, request.include_usage, request.trace.endpoint, hurried)
        return key, travels, control.exact_only, control.max_age, self.orders.turn

    async def _other_wording(
        self, semantic: SemanticCache, next: Handler, asked: Asked, since: float
    ) -> Reply | None:
        """Return the other wording's answer if one is found that may be served."""
        request, control = asked.request, asked.control
        asked.question = semantic.question(asked.found)
        if asked.question is None or control.refresh:
            return None
        left = self._left(request.trace, since)
        if left <= 0 and self._waits:
            self._count("hasten_cache_bypassed_total", ("budget",), 1)
            self._skipped(request.trace)
            return None
        asked.finding = finding = await semantic.look(asked.question, asked.group, left)
        request.trace.cache_why = finding.why
        if finding.why == NO_BUDGET:
            self._skipped(request.trace)
        entry = finding.entry
        if entry is None or not finding.serve or not self._young(entry, control):
            return None
        reply = replay(entry, request)
        if reply is None:
            return None
        reply.headers.append((b"x-hasten-cache-entry", entry.key.hex().encode()))
        why = finding.why + self._renew(request, next, asked.found, entry)
        return self._hit(request, entry, reply, "semantic", why, since)

    async def _ask(self, next: Handler, asked: Asked, flight: Flight, since: float) -> Reply:
        trace = asked.request.trace
        trace.cache = "miss"
        asked.epochs = self.store.epochs(asked.tags)
        asked.started = trace.span("cache", since)
        reply = await next(asked.request)
        self._answered(asked, flight, reply)
        return reply

    def _answered(self, asked: Asked, flight: Flight, reply: Reply) -> None:
        """Keep a whole answer now, a streamed one when it has ended."""
        request = asked.request
        if reply.stream is not None:
            flight.then = partial(self._streamed, asked, reply.content_type)
            return
        if reply.event is not None:
            request.trace.saw(reply.event)
            fill(request.trace, request, Said([reply.event]))
        self._orphaned(request)
        why = recording.refuse_whole(request, reply, self.settings)
        self._keep(why, asked, reply.body, False, reply.content_type)

    def _streamed(self, asked: Asked, content_type: bytes, flight: Flight, error: HastenError | None) -> None:
        why = "broken" if error is not None else None
        why = why or recording.refuse_stream(asked.request, flight.chunks, flight.size, self.settings)
        used = recording.usage_of(flight.chunks)
        if used is not None and used.usage is not None:
            asked.request.trace.saw_usage(used.usage)
        if why is None and asked.request.trace.output_tokens is None:
            said = Said([chunk.event for chunk in flight.chunks])
            fill(asked.request.trace, asked.request, said)
        if error is None:
            self._orphaned(asked.request)
        asked.counts = recording.counts_of(flight.chunks)
        self._keep(why, asked, b"".join([chunk.raw for chunk in flight.chunks]), True, content_type)

    def _orphaned(self, request: Request) -> None:
        """Pay for a call that went on for others after its own client had left."""
        if request.gone:
            request.trace.cache = "renewal"
            self._paid(request.trace)

    def _keep(self, why: str | None, asked: Asked, body: bytes, streamed: bool, content_type: bytes) -> None:
        """Store the answer if nothing speaks against it; tell the semantic cache how it compares."""
        if why is not None:
            self._count("hasten_cache_unstored_total", (why,), 1)
            return
        entry = asked.entry(body, streamed, content_type, self._clock(), self.settings)
        if not self.store.allows(entry):
            self._count("hasten_cache_unstored_total", ("invalidated",), 1)
            return
        question, finding = asked.question, asked.finding
        if question is None or self.semantic is None:
            self.store.keep(entry)
        elif question.new and (finding is None or finding.entry is None):
            self.semantic.keep(question, entry)
        else:
            self._later(self.semantic.settle(question, finding, entry))

    # -- in the background

    def _renew(self, request: Request, next: Handler, found: Fingerprint, entry: Entry) -> str:
        """Ask anew if ``entry`` is stale, once at a time for each; return what to say of it.

        Asked is ``request``, another wording after a semantic hit: the entry's own is not kept. The answer is kept
        under the request's key, with the entry's tags and time to live.
        """
        if self._clock() < entry.expires:
            return ""
        if entry.key in self._renewing or len(self._renewing) >= MAX_RENEWALS:
            return ", stale, being renewed"
        self._renewing.add(entry.key)
        trace = Trace()
        trace.endpoint, trace.tenant = request.trace.endpoint, request.trace.tenant
        trace.model = request.model
        again = Request(request.endpoint, request.fields, request.body, trace, request.headers)
        again.model, again.models = request.model, request.models
        control = Control()
        control.ttl = entry.expires - entry.created
        prefix = f"tag:{entry.tenant}:"
        control.tags = tuple(tag.removeprefix(prefix) for tag in entry.tags if tag.startswith(prefix))
        asked = Asked(again, control, found, entry.tenant)

        async def renew() -> None:
            outcome = "answered"
            try:
                # Not for others to join: who asks the same meanwhile is served what is stale, and does not wait.
                flight = Flight(
                    again, self._form(again, control, found.key), {}, self.settings.max_entry_bytes
                )
                if self.semantic is not None:
                    asked.question = self.semantic.question(found)
                reply = await self._ask(next, asked, flight, perf_counter())
                flight.landed(reply)
                if reply.stream is not None:
                    over: asyncio.Future[HastenError | None] = asyncio.get_running_loop().create_future()
                    reply.stream.attach(AtEnd(over.set_result))
                    if (error := await over) is not None:
                        raise error
            except HastenError as exc:
                outcome = exc.code or exc.type
            finally:
                self._renewing.discard(entry.key)
            self._count("hasten_cache_renewals_total", (outcome,), 1)
            self._count("hasten_cache_renewal_tokens_total", ("input",), trace.input_tokens or 0)
            self._count("hasten_cache_renewal_tokens_total", ("output",), trace.output_tokens or 0)
            trace.cache = "renewal"
            self._paid(trace)

        self._later(renew())
        return ", stale, being renewed"

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _trouble(self, error: StoreError) -> None:
        self._count("hasten_cache_bypassed_total", (error.code or "store_error",), 1)

    async def open(self) -> None:
        """Make the store ready. A store that cannot be is logged and passed by."""
        try:
            await self.store.open()
        except StoreError as exc:
            log.error("the cache's store cannot be used: %s", exc.message)

    def listen(self) -> None:
        """Carry out other workers' orders even if no request comes; called once a second."""
        if self.orders.waiting:
            self._later(self.orders.catch_up())

    async def close(self) -> None:
        """End what runs in the background, then the store."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.semantic is not None:
            self.semantic.close()
        self.orders.close()
        await self.store.close()

    def __repr__(self) -> str:
        return f"<CacheStage {self.store.name} {self.store.stats()} {len(self._flights)} in flight>"


def _as_hit(trace: Trace, model: str) -> None:
    """Note that no engine was asked: its latency is not counted as one's."""
    trace.engine, trace.provider, trace.served_model = "cache", "hasten", model
