"""The cascade: a weak tier answers first, its answer is judged, and the strong tier answers where it falls short.

Of a stream the first tokens are held until they are judged; what is shown is never taken back. With a speculative start
both tiers are asked at once. Who is called off is called off in every way out: nothing runs on after the reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from hasten.errors import HastenError
from hasten.route.check import Check
from hasten.route.hearing import (
    Heard,
    asks_logprobs,
    quiet,
    quiet_chunk,
    tokens_of,
    with_logprobs,
)
from hasten.route.judge import Asked, Judge, asked_of
from hasten.settings import Cascade as Settings
from hasten.settings import Settings as Everything
from hasten.trace import Trace
from hasten.types import Chunk, Handler, Reply, Request, Stream

MAX_HELD_BYTES = 4 * 1024 * 1024  # of events; a longer answer is judged by what there is

#: Counts ``amount`` of a metric with labels: (name, labels, amount).
Count = Callable[[str, tuple[str, ...], float], None]


class Cascade:
    """What the cascades of one routed name have in common. ``name``: of the model that clients ask for."""

    def __init__(self, name: str, settings: Settings, judge: Judge, count: Count) -> None:
        self.name = name
        self.settings = settings
        self.judge = judge
        self._count = count

    def applies(self, request: Request) -> bool:
        """Whether an answer can be judged: one text, a chat's or a completion's."""
        return request.endpoint != "embeddings" and (getattr(request.fields, "n", None) or 1) == 1

    async def answer(self, request: Request, strong: tuple[str, ...], next: Handler) -> Reply:
        """Return the weak tier's answer (``request.model``), or that of ``strong``, models to try in this order."""
        return await _Run(self, request, strong, next).answer()

    def decided(self, outcome: str, reason: str) -> None:
        """Count one that was ``passed``, ``raised``, ``kept`` although it fell short, or ``failed`` with both tiers."""
        self._count("hasten_route_cascade_total", (self.name, outcome, reason), 1)

    def discarded(self, trace: Trace, model: str, tokens: tuple[int, int]) -> None:
        """Note what was paid for an answer that is not served: tokens in, out."""
        trace.discarded.append((model, *tokens))
        for kind, amount in zip(("input", "output"), tokens, strict=True):
            self._count("hasten_route_discarded_tokens_total", (model, kind), amount)

    def __repr__(self) -> str:
        return f"<Cascade {self.name!r} {self.settings!r}>"


class _Run:
    """One request's way through the cascade."""

    def __init__(self, cascade: Cascade, request: Request, strong: tuple[str, ...], next: Handler) -> None:
        self.cascade = cascade
        self.request = request
        self.next = next
        self.asked = asked_of(request)
        self.weak = _copy(request, (request.model,))
        self.strong = _copy(request, strong)
        self.hide = cascade.settings.logprobs and not asks_logprobs(request)
        if self.hide:
            self.weak.body = with_logprobs(request)
        self.since = perf_counter()
        self.whole: Reply | None = None  # the weak tier's, complete
        self.held: Held | None = None  # ... or as a stream
        self.heard = Heard()
        self.came: float | None = None  # when the weak tier's reply did
        self.ahead: asyncio.Task[Reply] | None = None

    async def answer(self) -> Reply:
        speculative = self.cascade.settings.speculative
        if speculative:
            self.ahead = self._start(self.strong)
        try:
            reason = await self._weak()
            if reason is None:
                return self._pass()
            return await self._raise(reason)
        except BaseException:
            if self.held is not None:
                self.held.cancel()
            raise
        finally:
            if self.ahead is not None:
                _drop(self.ahead)

    def _start(self, request: Request) -> asyncio.Task[Reply]:
        return asyncio.ensure_future(self.next(request))

    # -- the weak tier

    async def _weak(self) -> str | None:
        """Hear the weak tier; return why its answer falls short, ``None`` if it passes."""
        try:
            reply = await self._first()
        except HastenError as exc:
            return exc.code or "error"
        judge = self.cascade.judge
        self.came = perf_counter()
        if reply.stream is not None:
            self.held = Held(reply, judge, self.asked, self.heard, self.hide)
            return await self.held.verdict
        self.whole = reply
        if reply.event is None:  # of an unknown shape: nothing to judge by
            return None
        return judge.whole(self.asked, self.heard.whole(reply))

    async def _first(self) -> Reply:
        """Return the weak tier's reply. A strong one that is whole before it has nothing to wait for."""
        if self.ahead is None or self.request.stream:
            return await self.next(self.weak)
        task = self._start(self.weak)
        try:
            await asyncio.wait((task, self.ahead), return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and self.ahead.exception() is None:
                raise _Slow("the stronger tier was faster")
            return await task
        except BaseException:
            _drop(task)
            raise

    def _pass(self) -> Reply:
        trace = self.request.trace
        _merge(trace, self.weak.trace, served=True)
        trace.span("cascade", (self.held.since if self.held is not None else self.came) or perf_counter())
        self.cascade.decided("passed", "")
        if self.ahead is not None:
            self._count_ahead()
        return self._weak_reply()

    def _weak_reply(self) -> Reply:
        if self.held is not None:
            return self.held.reply
        assert self.whole is not None
        if self.hide:
            self.whole.body = quiet(self.whole.body)
        return self.whole

    # -- the strong tier

    async def _raise(self, reason: str) -> Reply:
        """Return the strong tier's reply; the weak tier's, if that is complete and the strong one fails."""
        trace = self.request.trace
        if self.held is not None and not self.held.complete:
            self.held.cancel()
        trace.span("cascade", self.since)
        try:
            reply = await (self.next(self.strong) if self.ahead is None else self.ahead)
        except HastenError as exc:
            return self._keep(reason, exc)
        self.ahead = None
        _merge(trace, self.weak.trace, served=False)
        _merge(trace, self.strong.trace, served=True)
        if self.strong.trace.route:  # a fallback, which must not be kept as the strong tier's own
            trace.reasons.append(f"raised: {reason}")
        else:
            trace.route = f"raised: {reason}"
        self.cascade.decided("raised", reason)
        self._count_weak(reason)
        return reply

    def _keep(self, reason: str, error: HastenError) -> Reply:
        """Return the weak tier's answer for want of a better one, if it is complete; else raise ``error``."""
        trace = self.request.trace
        _merge(trace, self.strong.trace, served=False)
        complete = self.whole is not None or (self.held is not None and self.held.complete)
        _merge(trace, self.weak.trace, served=complete)
        if not complete:
            self.cascade.decided("failed", reason)
            self._count_weak(reason)
            raise error
        trace.reasons.append(f"{self.strong.model}: {error.code or 'error'}")
        trace.route = "kept: strong failed"
        self.cascade.decided("kept", reason)
        if self.held is not None:
            self.held.release()
        return self._weak_reply()

    def _count_weak(self, reason: str) -> None:
        """Note what the weak tier's answer cost, if one began."""
        if self.heard.said or self.heard.usage or reason == _Slow.code:
            tokens = tokens_of(self.heard, self.weak)
            self.cascade.discarded(self.request.trace, self.weak.trace.served_model, tokens)

    def _count_ahead(self) -> None:
        """Note what the strong tier's vain start cost: its prompt, and the tokens that came so far."""
        assert self.ahead is not None
        heard = Heard()
        if self.ahead.done() and not self.ahead.cancelled() and self.ahead.exception() is None:
            reply = self.ahead.result()
            if reply.stream is None:
                heard.whole(reply)
            else:
                reply.stream.attach(_Counting(heard))
        if self.strong.trace.attempts:
            tokens = tokens_of(heard, self.strong)
            self.cascade.discarded(self.request.trace, self.strong.trace.served_model, tokens)


class _Counting:
    """The sink of a stream that nobody gets."""

    def __init__(self, heard: Heard) -> None:
        self.on_chunk = heard.add

    def on_end(self, error: HastenError | None) -> None:
        """Nobody hears of it."""


class _Slow(HastenError):
    """The weak tier took longer than the strong one that was started beside it."""

    code = "slow"


class Held:
    """A stream whose first tokens wait for the judge: the sink of the engine's, the source of the client's.

    ``verdict``: why it falls short, ``None`` if it passes, and then it flows already. ``complete``: it ended well.
    """

    def __init__(self, reply: Reply, judge: Judge, asked: Asked, heard: Heard, hide: bool) -> None:
        assert reply.stream is not None
        self.verdict: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.since: float | None = None  # the first token came
        self.complete = False
        self._inner = reply.stream
        self._judge = judge
        self._asked = asked
        self._heard = heard
        self._hide = hide
        self._kept: list[Chunk] | None = []  # None: released
        self._size = 0
        self.stream = Stream(self)
        self.reply = Reply(reply.status, content_type=reply.content_type, stream=self.stream)
        self.reply.headers = reply.headers
        self._inner.attach(self)

    # -- hasten.types.Tap

    def on_chunk(self, chunk: Chunk) -> None:
        if self._kept is None:
            self.stream.feed(quiet_chunk(chunk) if self._hide else chunk)
            return
        self._kept.append(chunk)
        self._heard.add(chunk)
        if self.since is None and chunk.token:
            self.since = chunk.at
        self._size += len(chunk.raw)
        hold = self._judge.settings.hold_tokens
        enough = 0 < hold <= len(self._heard.texts) or self._size > MAX_HELD_BYTES
        # With its finish reason an answer is over, and judged as a whole when the stream ends.
        if enough and self._heard.finish is None and not self.verdict.done():
            self._decide(self._judge.early(self._asked, self._heard))

    def on_end(self, error: HastenError | None) -> None:
        if self._kept is None:
            self.stream.end(error)
            return
        self.complete = error is None
        if error is not None:
            self._settle(error.code or "error")
        elif not self.verdict.done():
            self._decide(self._judge.whole(self._asked, self._heard))

    # -- own

    def _decide(self, reason: str | None) -> None:
        self._settle(reason)
        if reason is None:
            self.release()

    def _settle(self, reason: str | None) -> None:
        if not self.verdict.done():
            self.verdict.set_result(reason)

    def release(self) -> None:
        """Let the client have what was held, and all that comes. Its tokens count as coming now."""
        kept, self._kept = self._kept or [], None
        now = perf_counter()
        for chunk in kept:
            chunk.at = now
            self.stream.feed(quiet_chunk(chunk) if self._hide else chunk)
        if self.complete:
            self.stream.end()

    # -- hasten.types.Source

    def pause(self) -> None:
        self._inner.pause()

    def resume(self) -> None:
        self._inner.resume()

    def cancel(self) -> None:
        self._inner.cancel()

    def __repr__(self) -> str:
        return f"<Held {'released' if self._kept is None else f'{len(self._kept)} chunks'}>"


def make_cascades(settings: Everything, count: Count) -> dict[str, Cascade]:
    """Return the cascades by the name that clients ask for."""
    made: dict[str, Cascade] = {}
    check: Check | None = None
    for name, model in settings.models.items():
        given = model.route.cascade
        if model.tiers and given is not False:
            check = check or Check.load()
            chosen = Settings() if given is True else given
            made[name] = Cascade(name, chosen, Judge(chosen, check), count)
    return made


def _copy(request: Request, models: tuple[str, ...]) -> Request:
    """Return the request for one tier, with a record of its own: both tiers may be at it at once."""
    trace = Trace(request.trace.t0, request.trace.id)
    trace.parent, trace.state, trace.context = (
        request.trace.parent,
        request.trace.state,
        request.trace.context,
    )
    trace.tenant = request.trace.tenant
    trace.endpoint = request.trace.endpoint
    made = Request(request.endpoint, request.fields, request.body, trace, request.headers)
    made.stream = request.stream
    made.model = models[0]
    made.models = models
    return made


def _merge(trace: Trace, part: Trace, served: bool) -> None:
    """Take one tier's record over; of the one that is served also who it was."""
    trace.attempts += part.attempts
    trace.reasons += part.reasons
    if not served and trace.served_model:
        return
    trace.engine, trace.provider, trace.served_model = part.engine, part.provider, part.served_model
    if served:
        trace.spans += part.spans
        trace.route = part.route or trace.route


def _drop(task: asyncio.Task[Reply]) -> None:
    """Call a task off, and a stream that it may have got all the same."""
    if not task.done():
        task.cancel()
    task.add_done_callback(_forget)


def _forget(task: asyncio.Task[Reply]) -> None:
    if not task.cancelled() and task.exception() is None:
        stream = task.result().stream
        if stream is not None:
            stream.cancel()
