"""The record of one request: where its time went, what was decided, what it used.

Headers, metrics, the request log and later the dashboard, the replay and the guard are all views of it.
Times are seconds of ``time.perf_counter``; durations are seconds unless a name says otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import copy
from time import perf_counter, time
from typing import TYPE_CHECKING, Protocol, TypeGuard

import msgspec

if TYPE_CHECKING:
    from hasten.fields import Asked
    from hasten.types import Event, Usage

_random = random.Random()  # seeded by the system; ids need be unique, not secret


def new_id() -> str:
    """Return a request id of 16 hexadecimal digits, unique for practical purposes."""
    return _random.randbytes(8).hex()


def timing(took: dict[str, float]) -> str:
    """Return seconds by stage as ``server-timing`` shows them (W3C, Server Timing): milliseconds."""
    return ", ".join([f"{stage};dur={seconds * 1e3:.3f}" for stage, seconds in took.items()])


class EngineCall(msgspec.Struct, array_like=True, gc=False):
    """One call to an engine; times as in :class:`Trace`. ``end``: ``None`` while it runs. ``error``: its code."""

    engine: str
    provider: str
    model: str
    start: float
    end: float | None = None
    error: str | None = None

    def ended(self, error: str | None = None) -> None:
        """Note that it is over, now."""
        self.end = perf_counter()
        self.error = error


class Context(msgspec.Struct, array_like=True, gc=False):
    """The place of a recorded request in a distributed trace (W3C, Trace Context): ids in hexadecimal digits.

    ``parent``: the client's span, empty if it sent none. ``span``: the request's own, a number of 63 bits; its calls to
    engines have the numbers that follow.
    """

    trace_id: str
    parent: str
    flags: str
    span: int
    calls: list[EngineCall] = []

    def call(self, engine: str, provider: str, model: str) -> EngineCall:
        """Note that an engine is asked from now on."""
        made = EngineCall(engine, provider, model, perf_counter())
        self.calls.append(made)
        return made

    @property
    def traceparent(self) -> str:
        """What the engine that was asked last is told: the call to it is the parent of its spans."""
        return f"00-{self.trace_id}-{self.span + len(self.calls):016x}-{self.flags}"


def count_of(said: object) -> int | None:
    """Return a count that an engine told, if it can be one: whatever is added up from it must not break."""
    return said if type(said) is int and 0 <= said < 1 << 40 else None


def _is_time(said: object) -> TypeGuard[float]:
    return isinstance(said, int | float) and 0 <= said < 1e12


class Transcript(Protocol):
    """What was said, kept only where the settings ask for it. ``size``: bytes of memory that it holds."""

    size: int

    def texts(self) -> tuple[str, str, bool] | None:
        """Return the request, the answer, and whether something of them is missing; ``None``: not to be told."""

    def prefix(self) -> tuple[str, list[int]] | None:
        """Return what the conversation and the prompt's blocks are known by; ``None``: not to be told."""


class Trace(msgspec.Struct, eq=False):
    """One request from its first byte to the last byte of its reply.

    ========== ===========================================================
    t0         the request's first byte was seen
    t_first    the first non-empty token was passed on (``None``: none yet)
    t_last     the last token was passed on
    t_end      the reply was complete, or failed
    ========== ===========================================================
    """

    # A struct takes all its defaults in one go: one is made for each request.
    t0: float = msgspec.field(default_factory=perf_counter)
    id: str = msgspec.field(default_factory=new_id)
    t_first: float | None = None
    t_last: float | None = None
    t_end: float | None = None
    endpoint: str = ""
    tenant: str = ""
    model: str = ""  # as the client asked
    served_model: str = ""  # the configured model that answered (differs after a fallback)
    engine: str = ""
    provider: str = ""
    parent: str = ""  # W3C traceparent, as sent by the client
    state: str = ""  # W3C tracestate, likewise
    context: Context | None = None  # of requests whose spans are exported
    stream: bool = False
    asked: Asked | None = None  # ``None``: no call for an engine, or refused before it was read
    status: int = 0
    error: str | None = None  # the error's code
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    estimated: bool = False  # tokens counted by the gateway, as the engine sent no usage
    tokens_seen: int = 0  # non-empty events
    attempts: int = 0
    #: Stages with their begin and end, in order of their end. See :mod:`hasten.anatomy`.
    spans: list[tuple[str, float, float]] = []
    parts: dict[str, float] | None = None  # of a finished request: seconds by stage
    engine_prefill: float | None = None  # seconds, as the engine tells them
    engine_decode: float | None = None
    reasons: list[str] = []  # fallbacks, bypasses: "vllm-a: engine_refused"
    transcript: Transcript | None = None
    cache: str = ""  # miss, exact, semantic, coalesced, bypass
    cache_why: str = ""  # the reason, in ASCII, without anybody's text
    named: str = ""  # the named route that the request was led by
    route: str = ""  # why it went to this tier; "fallback"
    complexity: float | None = None
    side: str = ""  # of the routing dial; empty where the client chose
    #: Answers paid for and not served: model, tokens in, tokens out.
    discarded: list[tuple[str, int, int]] = []
    cost: float | None = None  # in the prices' currency; ``None``: no price is known, or nothing was used
    on_cost: Callable[[float], None] | None = None  # hears of it once
    _wall: float | None = None

    @property
    def wall(self) -> float:
        """When the first byte came, seconds since 1970; by the clocks as they are when first asked."""
        if self._wall is None:
            self._wall = time() - (perf_counter() - self.t0)
        return self._wall

    def span(self, stage: str, since: float) -> float:
        """Record that ``stage`` ran from ``since`` until now; return now."""
        now = perf_counter()
        self.spans.append((stage, since, now))
        return now

    def propagated(self) -> str:
        """Return the header lines that tell an engine which trace its work is a part of; none if nobody began one."""
        parent = self.parent if self.context is None else self.context.traceparent
        if not parent:
            return ""
        state = f"tracestate: {self.state}\r\n" if self.state else ""
        return f"traceparent: {parent}\r\n{state}"

    def server_timing(self) -> str:
        """Return the value of the ``server-timing`` header: the stages that ran until now, milliseconds.

        Of a whole answer they add up to its time. What an engine tells of its own time is a part of ``upstream``.
        """
        took: dict[str, float] = {}
        rest = perf_counter() - self.t0
        for stage, start, end in self.spans:
            seconds = end - start
            took[stage] = took[stage] + seconds if stage in took else seconds
            rest -= seconds
        if rest > 0:
            took["gateway"] = rest
        value = timing(took)
        if self.engine_prefill is not None and self.engine_decode is not None and "upstream" in took:
            value += f', prefill;dur={self.engine_prefill * 1e3:.3f};desc="of upstream"'
            value += f', decode;dur={self.engine_decode * 1e3:.3f};desc="of upstream"'
        return value

    def saw(self, event: Event) -> None:
        """Take over what a whole answer says of tokens and of its end."""
        for choice in event.choices or ():
            self.finish_reason = choice.finish_reason or self.finish_reason
        if event.usage is not None:
            self.saw_usage(event.usage)
        if event.timings is not None:
            self.saw_timings(event.timings)

    def saw_usage(self, usage: Usage) -> None:
        """Take over an engine's token counts; those of its own cache not where no engine was asked."""
        self.input_tokens = count_of(usage.prompt_tokens)
        self.output_tokens = count_of(usage.completion_tokens)
        cached = count_of((usage.prompt_tokens_details or {}).get("cached_tokens"))
        if cached is not None and self.engine != "cache":
            self.cached_tokens = cached

    def saw_timings(self, timings: object) -> None:
        """Take over what llama.cpp's server tells of its own work: milliseconds, and tokens if it sends no usage.

        Who got a stored answer, or another request's, has them in the body, but took none of that time.
        """
        if not isinstance(timings, dict) or self.engine == "cache":  # or some other server's
            return
        prefill, decode = timings.get("prompt_ms"), timings.get("predicted_ms")
        cached, given, said = map(count_of, map(timings.get, ("cache_n", "prompt_n", "predicted_n")))
        if _is_time(prefill) and _is_time(decode):
            self.engine_prefill, self.engine_decode = prefill / 1e3, decode / 1e3
        if self.cached_tokens is None:
            self.cached_tokens = cached
        # With ``timings_per_token`` each event has some: the last ones hold, unless usage has said as much.
        if given is not None and said is not None and said > (self.output_tokens or 0):
            self.input_tokens = given + (cached or 0)
            self.output_tokens = said

    def copy(self) -> Trace:
        """Return the record as it is now, of a request that ends while others go on with its call; these are told what
        the call costs."""
        made = copy(self)
        made.spans, made.reasons, made.discarded = [*self.spans], [*self.reasons], [*self.discarded]
        made.on_cost = None
        return made

    @property
    def way(self) -> str:
        """The named route and why the request went where it went, in a word or two each."""
        if not self.named:
            return self.route
        return f"named: {self.named}, {self.route}" if self.route else f"named: {self.named}"

    @property
    def duration(self) -> float:
        """Seconds from the first byte of the request to the end of the reply (so far)."""
        return (self.t_end or perf_counter()) - self.t0

    @property
    def ttft(self) -> float | None:
        """Time to first token, seconds; ``None`` for replies that were not streamed."""
        return None if self.t_first is None else self.t_first - self.t0

    @property
    def tpot(self) -> float | None:
        """Time per output token after the first, (E2E - TTFT) / (output tokens - 1), seconds."""
        # A stream's events mostly are its tokens, so they are nearer than an estimate by the text.
        tokens = self.tokens_seen if self.estimated else self.output_tokens or self.tokens_seen
        if self.t_first is None or self.t_last is None or tokens < 2:
            return None
        return (self.t_last - self.t_first) / (tokens - 1)

    def __repr__(self) -> str:
        state = f"{self.status} {self.duration * 1e3:.1f} ms" if self.t_end else "in flight"
        return f"<Trace {self.id} {self.endpoint} {self.model!r} -> {self.engine!r} {state}>"
