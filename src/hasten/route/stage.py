"""The route stage: a name with tiers becomes one of them, before the engines are asked.

The policy (:mod:`hasten.route.tiers`) decides without I/O; this reads the request for it, and tells it how the answer
came out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, time
from zlib import crc32

from hasten.budget import budgets_of, skipped
from hasten.errors import InvalidField
from hasten.route.book import Book, cost_of
from hasten.route.cascade import Cascade, cost_discarded, make_cascades
from hasten.route.complexity import Complexity
from hasten.route.conversation import Conversations, Talk, talk_of
from hasten.route.needs import Needs, context_of, demands, needs_of, required
from hasten.route.shares import Scores
from hasten.route.tiers import Asked, Decision, Tier, Tiers
from hasten.settings import Settings
from hasten.trace import Trace
from hasten.types import Handler, Reply, Request

#: Counts ``amount`` of a metric with labels: (name, labels, amount).
Count = Callable[[str, tuple[str, ...], float], None]
UNJUDGED = frozenset(("asked", "deadline"))  # decisions whose tier answers, come what may
TURNS = 4  # of a conversation that is not remembered, how many of the user's last turns are judged


class RouteStage:
    """Routes the names that have tiers; other requests pass. ``healthy``: whether a model has an engine to ask now."""

    def __init__(
        self,
        settings: Settings,
        complexity: Complexity,
        healthy: Callable[[str], bool],
        count: Count,
        folder: Path | None = None,
        clock: Callable[[], float] = time,
        book: Book | None = None,
    ) -> None:
        self.complexity = complexity
        self.book = book if book is not None else Book(settings, None, folder, clock)
        self._own = {
            name: Complexity(Path(model.route.router).expanduser())
            for name, model in settings.models.items()
            if model.route.router is not None
        }
        self.routed = {
            name: _tiers(settings, name, healthy, self.router(name))
            for name, model in settings.models.items()
            if model.tiers
        }
        self._conversations = {
            name: Conversations(
                settings.models[name].route.sticky,
                clock,
                folder / f"talks-{crc32(name.encode()):08x}" if folder is not None else None,
            )
            for name in self.routed
            if settings.models[name].route.sticky
        }
        self._cascades = make_cascades(settings, count)
        self._prices = {name: model.price for name, model in settings.models.items() if model.price}
        self._require = required(settings)
        self._count = count
        self._budgets = budgets_of(settings.slo)

    async def __call__(self, request: Request, next: Handler) -> Reply:
        tiers = self.routed.get(request.model)
        if tiers is None:
            return await next(request)
        if request.endpoint == "embeddings":  # vectors of different models do not compare
            names = ", ".join(tier.name for tier in tiers.tiers)
            raise InvalidField(f"embeddings are not routed: ask for one of {names}", "model")
        since = perf_counter()
        trace = request.trace
        talk = talk_of(request)
        needs = needs_of(request, demands(request, self._require))
        judged = True
        if self._budgets is not None and self._budgets.left(trace, "route", since) <= 0:
            judged = False
            skipped(trace, "route", self._count)
        decision = self.decide(tiers, request, talk, needs, judged)
        tier = decision.tier
        trace.route = decision.reason
        self._count("hasten_route_requests_total", (tiers.name, tier.name, decision.reason), 1)
        request.model = tier.name
        request.models = tiers.chain(decision.level, needs)
        since = trace.span("route", since)
        reply = await self._answer(tiers, decision, request, needs, next)
        if reply.stream is None:
            if reply.event is not None:
                trace.saw(reply.event)
            self._done(tiers, tier, trace, perf_counter() - since, None)
        else:
            first = perf_counter() - since
            reply.stream.on_end.append(
                lambda error: None if error else self._done(tiers, tier, trace, perf_counter() - since, first)
            )
        return reply

    def router(self, name: str) -> Complexity:
        """Return the judge of a routed name's requests."""
        return self._own.get(name, self.complexity)

    async def _answer(
        self, tiers: Tiers, decision: Decision, request: Request, needs: Needs, next: Handler
    ) -> Reply:
        """Return the chosen tier's answer, judged where there is a cascade and a stronger tier to ask."""
        found = self.cascade(tiers, decision, request, needs)
        if found is None:
            return await next(request)
        cascade, strong = found
        return await cascade.answer(request, strong, next)

    def cascade(
        self, tiers: Tiers, decision: Decision, request: Request, needs: Needs
    ) -> tuple[Cascade, tuple[str, ...]] | None:
        """Return who judges the chosen tier's answer, and the models to try where it falls short; ``None``: nobody."""
        cascade = self._cascades.get(tiers.name)
        if cascade is None or decision.reason in UNJUDGED or not cascade.applies(request):
            return None
        strong = tiers.above(decision.level, needs)
        if strong is None:
            return None
        chain = tiers.chain(strong, needs)
        return cascade, tuple(name for name in chain if name != decision.tier.name)

    def decide(
        self, tiers: Tiers, request: Request, talk: Talk, needs: Needs, judged: bool = True
    ) -> Decision:
        """Judge a request, unless there is no time for that, and choose its tier; note the conversation's."""
        trace = request.trace
        conversations = self._conversations.get(tiers.name)
        was = None
        if conversations is not None and talk.early:
            was = conversations.get(talk.early)
            was = conversations.get(talk.first) if was is None else was
        goes_on = bool(talk.early) and talk.goes_on
        own = score = None
        if judged:
            own = self._score(self.router(tiers.name), talk, known=was is not None)
            score = trace.complexity = self.book.corrected(tiers.name, own)
        deadline, ttft = (
            _seconds(request, name) for name in (b"x-hasten-deadline-ms", b"x-hasten-slo-ttft-ms")
        )
        wish = request.headers.get(b"x-hasten-route")
        asked = Asked(
            score,
            needs,
            tiers.dial.side(talk.first),
            was,
            goes_on,
            wish.decode("latin-1") if wish is not None else None,
            None if deadline is None else deadline - (perf_counter() - trace.t0),
            ttft,
        )
        decision = tiers.decide(asked)
        side = asked.side if wish is None else ""
        self.book.begun(trace, tiers.name, decision.level, side, None if goes_on else own)
        if score is not None and not goes_on:
            tiers.saw(score)
        # What a tier was chosen for without being judged says nothing of the turns to come.
        if conversations is not None and (judged or goes_on or wish is not None):
            # Others may begin with the same words: none of them goes down by another's first turn.
            before = was if talk.early else conversations.get(talk.first)
            conversations.put(talk.early or talk.first, max(decision.level, before or 0))
        return decision

    def _score(self, router: Complexity, talk: Talk, known: bool) -> float:
        """Return how hard the request is: its last turn, or the hardest of the last few if nothing is known of them."""
        if not talk.texts:
            return 0.0
        if known or not talk.early:
            return router.score(talk.texts[-1])
        return max(router.score(text) for text in talk.texts[-TURNS:])

    def _done(self, tiers: Tiers, tier: Tier, trace: Trace, took: float, first: float | None) -> None:
        """Note how the answer came out."""
        price = self._prices.get(trace.served_model or tier.name)
        cost = None
        if price is not None:
            cost = cost_of(trace, price) + cost_discarded(trace, self._prices)
        self.book.done(trace, tiers.name, tier.name, took, first, cost)
        if trace.route == "fallback":  # another one stood in: its time is not this tier's
            return
        tier.e2e.saw(took)
        if first is not None:
            tier.ttft.saw(first)
        if cost is not None:
            tier.cost.saw(cost)

    def inherit(self, former: RouteStage) -> None:
        """Go on with what the stage before a reload has seen."""
        for name, tiers in self.routed.items():
            old = former.routed.get(name)
            if old is None:
                continue
            tiers.inherit(old)
            if old.routing.sticky == tiers.routing.sticky and name in self._conversations:
                self._conversations[name] = former._conversations[name]

    def __repr__(self) -> str:
        return f"<RouteStage {list(self.routed.values())!r}>"


def _tiers(settings: Settings, name: str, healthy: Callable[[str], bool], complexity: Complexity) -> Tiers:
    def tier(model: str) -> Tier:
        return Tier(model, settings.models[model], context_of(settings, model), partial(healthy, model))

    given = settings.models[name]
    tiers = [tier(model) for model in given.tiers]
    spare = {model: [tier(other) for other in settings.models[model].fallback] for model in given.tiers}
    return Tiers(name, tiers, given.route, Scores(complexity.prior()), spare)


def _seconds(request: Request, name: bytes) -> float | None:
    """Return a header's milliseconds as seconds; raise :class:`InvalidField` for what is no positive number."""
    given = request.headers.get(name)
    if given is None:
        return None
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1e9:
        shown = name.decode()
        raise InvalidField(f"{shown}: expected milliseconds, a positive number", shown)
    return value / 1e3
