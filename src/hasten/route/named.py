"""The named routes: chats whose last user text is like this are led another way. Before the cache, which they steer.

Patterns of all routes come first: they take microseconds, and the event loop is not left for them. Only a chat that
none of them finds is embedded, where a route with examples is open to it; what the embedder does not say in time is no
match. Within each step the order of the settings decides.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from time import perf_counter
from typing import Any, Protocol

from hasten.budget import budgets_of, skipped
from hasten.fields import ChatFields
from hasten.route.conversation import text_of
from hasten.route.needs import context_of, demands, needs_of, required
from hasten.route.system import put_system
from hasten.settings import PATTERN_CHARS, Route, RouteCache, Settings
from hasten.trace import Trace
from hasten.types import Handler, Reply, Request

log = logging.getLogger("hasten.route")

LOOKS = 16  # texts embedded at a time: what waits longer than that would come too late
RETRY = 10.0  # seconds after which the examples are tried again


class Vector(Protocol):
    """A vector of unit length: its product with another is their cosine."""

    def __matmul__(self, other: Any, /) -> Any: ...


#: Texts to vectors, as soon as it can. Raises :class:`RuntimeError` when it cannot.
Embed = Callable[[Sequence[str]], Awaitable[Sequence[Vector]]]
#: Counts ``amount`` of a metric with labels: (name, labels, amount).
Count = Callable[[str, tuple[str, ...], float], None]


class NamedRoute:
    """One route: which chats it is for. ``headers``: what it says of caching, in a client's words."""

    def __init__(self, name: str, given: Route) -> None:
        self.name = name
        self.given = given
        self.headers = cache_headers(given.cache)
        self._patterns = [re.compile(pattern, re.IGNORECASE) for pattern in given.patterns]
        self._examples: list[Vector] = []

    def open_to(self, model: str, tenant: str) -> bool:
        """Whether it is for requests of ``tenant`` for ``model``."""
        given = self.given
        return (not given.models or model in given.models) and (not given.tenants or tenant in given.tenants)

    def finds(self, text: str) -> bool:
        """Whether one of the patterns is in ``text``."""
        return any(pattern.search(text) for pattern in self._patterns)

    def learn(self, vectors: Mapping[str, Vector]) -> None:
        """Take the vectors of the examples, by their texts."""
        self._examples = [vectors[text] for text in self.given.examples]

    def is_like(self, vector: Vector) -> bool:
        """Whether the nearest example is near enough."""
        near = max((float(example @ vector) for example in self._examples), default=-1.0)
        return near >= self.given.threshold

    def __repr__(self) -> str:
        return f"<NamedRoute {self.name!r} {len(self._patterns)} patterns, {len(self._examples)} examples>"


class NamedStage:
    """Leads chats by the settings' ``routes``. ``embed``: ``None`` where there are no examples, or no embedder.

    ``known``: vectors of examples that a former stage has learnt.
    """

    def __init__(
        self,
        settings: Settings,
        embed: Embed | None,
        count: Count,
        known: Mapping[str, Vector] | None = None,
    ) -> None:
        self.routes = [NamedRoute(name, given) for name, given in settings.routes.items()]
        self._models = settings.models
        self._contexts = {name: context_of(settings, name) for name in settings.models}
        self._require = required(settings)
        self._embed = embed
        self._count = count
        self._budgets = budgets_of(settings.slo)
        self._looking = 0
        texts = dict.fromkeys(text for route in self.routes for text in route.given.examples)
        self.known = {text: known[text] for text in texts if known is not None and text in known}
        #: Whether examples can be matched: ``ready``, ``loading`` or ``failed``.
        self.state = "ready"
        self._learning: asyncio.Task[None] | None = None
        if len(self.known) == len(texts):
            self._learnt()
        elif embed is None:
            self.state = "failed"
        else:
            self.state = "loading"
            self._learning = asyncio.get_running_loop().create_task(self._learn(list(texts), embed))

    async def __call__(self, request: Request, next: Handler) -> Reply:
        if isinstance(request.fields, ChatFields):
            since = perf_counter()
            route = await self._find(request, last_text(request.fields), since)
            if route is not None:
                self.lead(request, route)
            request.trace.span("named", since)
        return await next(request)

    # -- which

    async def _find(self, request: Request, text: str, since: float) -> NamedRoute | None:
        """Return the route that a chat belongs to, and count how it was found, or why it was not."""
        model, tenant = request.model, request.trace.tenant
        if not text or model not in self._models:
            return None
        routes = [route for route in self.routes if route.open_to(model, tenant)]
        for route in routes:
            if route.finds(text):
                self._note(route.name, "pattern")
                return route
        routes = [route for route in routes if route.given.examples]
        if not routes:
            return None
        timeout = max(route.given.timeout for route in routes)
        vector = await self._vector(text, timeout, request.trace, since)
        if vector is None:
            return None
        for route in routes:
            if route.is_like(vector):
                self._note(route.name, "example")
                return route
        return None

    async def _vector(self, text: str, timeout: float, trace: Trace, since: float) -> Vector | None:
        """Return the vector of ``text``, ``None`` if there is none within ``timeout`` seconds, or within what the
        request's budget leaves; why is counted."""
        if self._embed is None or self.state != "ready":
            self._note("", self.state)
            return None
        if self._looking >= LOOKS:
            self._note("", "busy")
            return None
        left = inf if self._budgets is None else self._budgets.left(trace, "named", since)
        if left <= 0:
            self._skip(trace)
            return None
        self._looking += 1
        try:
            async with asyncio.timeout(min(timeout, left)):
                return (await self._embed([text]))[0]
        except TimeoutError:
            if left < timeout:
                self._skip(trace)
            else:
                self._note("", "timeout")
        except RuntimeError:
            self._note("", "failed")
        finally:
            self._looking -= 1
        return None

    def _skip(self, trace: Trace) -> None:
        self._note("", "budget")
        skipped(trace, "named", self._count)

    def _note(self, route: str, how: str) -> None:
        self._count("hasten_route_named_total", (route, how), 1)

    # -- and then

    def lead(self, request: Request, route: NamedRoute) -> None:
        """Do to the request what the route says, as far as the client does not say otherwise."""
        given = route.given
        request.trace.named = route.name
        if route.headers:
            request.headers = {**route.headers, **request.headers}
        if given.system is not None:
            put_system(request, given.system, given.system_mode)
        if given.to is not None and b"x-hasten-route" not in request.headers:
            self._send(request, route.name, given.to)

    def _send(self, request: Request, route: str, to: str) -> None:
        """Have ``to`` asked, unless it lacks what the request needs; of a name with tiers routing sees to that."""
        model = self._models[to]
        needs = needs_of(request, demands(request, self._require))
        if model.tiers:
            unmet = [needs.unmet(self._models[n], self._contexts[n]) for n in model.tiers]
            if None not in unmet:
                self._note(route, f"lacks {unmet[-1]}")
                return
        else:
            lacks = {n: needs.unmet(self._models[n], self._contexts[n]) for n in (to, *model.fallback)}
            if lacks[to] is not None:
                self._note(route, f"lacks {lacks[to]}")
                return
            request.models = tuple(name for name, lack in lacks.items() if lack is None)
        request.model = to

    # -- the examples

    async def _learn(self, texts: list[str], embed: Embed) -> None:
        """Embed the examples. One by one: a quantised model's vectors depend a little on their batch."""
        while True:
            try:
                for text in texts:
                    if text not in self.known:
                        self.known[text] = (await embed([text]))[0]
            except RuntimeError as exc:
                if self.state != "failed":
                    log.error("the routes' examples are passed by, they cannot be embedded: %s", exc)
                self.state = "failed"
                await asyncio.sleep(RETRY)
            else:
                self._learnt()
                return

    def _learnt(self) -> None:
        for route in self.routes:
            route.learn(self.known)
        self.state = "ready"

    def close(self) -> None:
        """Stop learning."""
        if self._learning is not None:
            self._learning.cancel()

    def __repr__(self) -> str:
        return f"<NamedStage {self.state} {self.routes!r}>"


def last_text(fields: ChatFields) -> str:
    """Return what the user said last, its first ``PATTERN_CHARS`` characters; empty if there is no text."""
    for message in reversed(fields.messages):
        if message.role == "user":
            return text_of(message).strip()[:PATTERN_CHARS]
    return ""


def cache_headers(given: RouteCache) -> dict[bytes, bytes]:
    """Return the headers with which a client would ask for the same."""
    made = {}
    if given.policy is not None:
        made[b"x-hasten-cache"] = given.policy.encode()
    if given.ttl is not None:
        made[b"x-hasten-cache-ttl"] = b"%d" % given.ttl
    if given.tags:
        made[b"x-hasten-cache-tags"] = ",".join(given.tags).encode()
    return made
