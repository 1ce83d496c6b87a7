"""The decision: which of a routed name's tiers gets a request, and why. Synchronous; the stage does the rest.

In this order: what the client chose, what the request needs, the conversation, the difficulty against the share that
is held, the engines' health, the deadline. A later step never undoes an earlier one's refusal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from hasten.dials import Dial, Side
from hasten.errors import InvalidField, NoTier
from hasten.route.needs import Needs
from hasten.route.shares import Scores, ShareKeeper
from hasten.settings import Hold, Model, Routing

MARGIN = 0.05  # of score: how much harder than the threshold a turn must be to lift its conversation
RECENT = 0.02  # weight of the newest observation in a mean


class Mean:
    """An exponentially weighted mean and mean deviation (Jacobson 1988, as TCP's round-trip estimate)."""

    __slots__ = ("deviation", "n", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.deviation = 0.0
        self.n = 0

    def saw(self, value: float) -> None:
        """Take one observation in; the first ones weigh as in a plain mean."""
        self.n += 1
        weight = max(RECENT, 1.0 / self.n)
        self.deviation += weight * (abs(value - self.value) - self.deviation) if self.n > 1 else value / 2
        self.value += weight * (value - self.value)

    @property
    def high(self) -> float:
        """A value that most stay under."""
        return self.value + 2.0 * self.deviation

    def __repr__(self) -> str:
        return f"<Mean {self.value:.4g} +- {self.deviation:.4g} of {self.n}>"


class Tier:
    """One of the models to choose from, with what was seen of it. Times in seconds."""

    def __init__(self, name: str, model: Model, context: int | None, healthy: Callable[[], bool]) -> None:
        self.name = name
        self.model = model
        self.context = context
        self.healthy = healthy
        self.ttft = Mean()
        self.e2e = Mean()
        self.cost = Mean()
        self.chosen = 0

    def in_time(self, deadline: float | None, ttft: float | None) -> bool:
        """Whether an answer is likely within ``deadline`` and a first token within ``ttft``; unknown is yes."""
        if deadline is not None and self.e2e.n and self.e2e.high > deadline:
            return False
        return ttft is None or not self.ttft.n or self.ttft.high <= ttft

    def __repr__(self) -> str:
        return f"<Tier {self.name!r} {self.chosen} chosen, e2e {self.e2e!r}>"


class Asked(NamedTuple):
    """What a decision is made from. ``was``: the conversation's tier; ``deadline``, ``ttft``: seconds left.

    ``score``: ``None`` where there was no time to judge the request.
    """

    score: float | None
    needs: Needs
    side: Side = "act"
    was: int | None = None
    goes_on: bool = False
    wish: str | None = None
    deadline: float | None = None
    ttft: float | None = None


class Decision(NamedTuple):
    """The tier, its place among the tiers, and the reason in a word or two."""

    tier: Tier
    level: int
    reason: str


class Tiers:
    """Chooses for one routed name. The weakest tier is first, the strongest last."""

    def __init__(
        self,
        name: str,
        tiers: list[Tier],
        routing: Routing,
        scores: Scores | None = None,
        spare: Mapping[str, list[Tier]] | None = None,
    ) -> None:
        """``spare``: a tier's own fallbacks, by its name."""
        self.name = name
        self.tiers = tiers
        self._spare = spare or {}
        self.routing = routing
        self.dial = Dial(f"route {name}", routing.share, routing.holdback)
        self.scores = scores or Scores()
        # One keeper for each step from a tier to the next: it holds the share at that tier or above.
        self.keepers = [ShareKeeper(self.scores) for _ in tiers[1:]]
        self._since = 0
        # Most requests need nothing special: for them nothing is compared.
        everyone = [*tiers, *(tier for tiers in self._spare.values() for tier in tiers)]
        self._room = min((tier.context for tier in everyone if tier.context is not None), default=sys.maxsize)
        self._chains = [self._chain(i) for i in range(len(tiers))]
        self._set_shares()

    def decide(self, asked: Asked) -> Decision:
        """Return the decision. Raises :class:`NoTier` if no tier has what is needed, :class:`InvalidField` for a wish
        that is no tier."""
        able, lacking = self._able(asked.needs)
        if asked.wish is not None:
            index = self._wished(asked.wish)
            if index not in able:
                raise NoTier(f"{asked.wish} cannot serve this request: {lacking[index]}")
            return self._chose(index, "asked")
        index, reason = self._wanted(asked)
        if index not in able:
            lack = lacking[index]
            index = next((i for i in able if i > index), able[-1])
            reason = f"needs {lack}"
        if not self.tiers[index].healthy():
            up = [i for i in able if self.tiers[i].healthy()]
            if up:
                index = next((i for i in up if i > index), up[-1])
                reason = "health"
        if not self.tiers[index].in_time(asked.deadline, asked.ttft):
            fast = [
                i
                for i in able
                if self.tiers[i].healthy() and self.tiers[i].in_time(asked.deadline, asked.ttft)
            ]
            if fast:
                index, reason = max(fast), "deadline"
        return self._chose(index, reason)

    def _able(self, needs: Needs) -> tuple[Sequence[int], dict[int, str]]:
        if needs.plain and needs.tokens <= self._room:
            return range(len(self.tiers)), {}
        able: list[int] = []
        lacking: dict[int, str] = {}
        for i, tier in enumerate(self.tiers):
            lack = needs.unmet(tier.model, tier.context)
            if lack is None:
                able.append(i)
            else:
                lacking[i] = lack
        if not able:
            lacks = ", ".join(f"{self.tiers[i].name} ({lack})" for i, lack in lacking.items())
            raise NoTier(f"no tier of {self.name!r} can serve this request: {lacks}")
        return able, lacking

    def _wished(self, wish: str) -> int:
        for i, tier in enumerate(self.tiers):
            if tier.name == wish:
                return i
        names = ", ".join(tier.name for tier in self.tiers)
        raise InvalidField(
            f"x-hasten-route: {wish[:100]!r} is no tier of {self.name!r}: {names}", "x-hasten-route"
        )

    def _wanted(self, asked: Asked) -> tuple[int, str]:
        """Return the tier by side, conversation and difficulty alone."""
        last = len(self.tiers) - 1
        if asked.side != "act":
            return last, asked.side
        was = min(asked.was, last) if asked.was is not None else None
        if was is not None and asked.goes_on:
            return was, "conversation"
        if asked.score is None:
            return last, "budget"
        if was is not None:
            lifted = self._by_score(asked.score - MARGIN)
            return (lifted, "harder") if lifted > was else (was, "conversation")
        index = self._by_score(asked.score)
        return index, "hard" if index == last else "easy" if index == 0 else "medium"

    def _by_score(self, score: float) -> int:
        index = 0
        for keeper in self.keepers:
            if not keeper.chooses(score):
                break
            index += 1
        return index

    def _chose(self, index: int, reason: str) -> Decision:
        for i, keeper in enumerate(self.keepers):
            keeper.chose(index > i)
        tier = self.tiers[index]
        tier.chosen += 1
        return Decision(tier, index, reason)

    def above(self, index: int, needs: Needs) -> int | None:
        """Return the strongest tier over ``index`` that can be asked now and lacks nothing, ``None`` without one."""
        for i in range(len(self.tiers) - 1, index, -1):
            tier = self.tiers[i]
            if tier.healthy() and needs.unmet(tier.model, tier.context) is None:
                return i
        return None

    def chain(self, index: int, needs: Needs) -> tuple[str, ...]:
        """Return the models to try, in order: the tier, its own fallbacks, the stronger tiers, the weaker ones; none of
        them lacks what the request needs."""
        chain = self._chains[index]
        if not needs.plain or needs.tokens > self._room:
            chain = [tier for tier in chain if needs.unmet(tier.model, tier.context) is None]
        return tuple([tier.name for tier in chain])

    def _chain(self, index: int) -> list[Tier]:
        chosen = self.tiers[index]
        others = [*self._spare.get(chosen.name, ()), *self.tiers[index + 1 :], *reversed(self.tiers[:index])]
        return list({tier.name: tier for tier in (chosen, *others)}.values())

    # -- what is held

    def saw(self, score: float) -> None:
        """Take a request's score into the distribution; now and then move the shares to what is held."""
        self.scores.saw(score)
        self._since += 1
        if self._since >= 16:
            self._since = 0
            self._set_shares()

    def inherit(self, old: Tiers) -> None:
        """Go on with another one's distribution of scores and with what it saw of the tiers of the same name.

        The scores of another router are others. What is owed to a share is so as long as the same is held.
        """
        if old.routing.router == self.routing.router:
            self.scores = old.scores
            for keeper in self.keepers:
                keeper.scores = old.scores
        tiers = [tier.name for tier in self.tiers]
        if tiers == [tier.name for tier in old.tiers] and old.routing.hold == self.routing.hold:
            for keeper, former in zip(self.keepers, old.keepers, strict=True):
                keeper.debt = former.debt
        known = {tier.name: tier for tier in old.tiers}
        for tier in self.tiers:
            if tier.name in known:
                was = known[tier.name]
                tier.ttft, tier.e2e, tier.cost, tier.chosen = was.ttft, was.e2e, was.cost, was.chosen
        self._set_shares()

    def _set_shares(self) -> None:
        strong = strong_share(self.routing.hold, self.scores, self.tiers)
        steps = len(self.keepers)
        for i, keeper in enumerate(self.keepers, 1):
            # With more than two tiers the lower steps take evenly of what is not for the strongest.
            keeper.share = strong + (1.0 - strong) * (steps - i) / steps

    def __repr__(self) -> str:
        return f"<Tiers {self.name!r} {self.tiers!r} {self.keepers!r}>"


def strong_share(hold: Hold, scores: Scores, tiers: list[Tier]) -> float:
    """Return the share for the strongest tier that holds what is to be held.

    A mean m of cost or time is held by the share s at which the tiers' means meet it::

        (1 - s) weak + s strong = m

    Until both tiers have been seen, half.
    """
    if hold.strong_share is not None:
        return hold.strong_share
    if hold.quality is not None:
        return scores.share_for_quality(hold.quality)
    if hold.cost is not None:
        aim, weak, strong = hold.cost, tiers[0].cost, tiers[-1].cost
    elif hold.ttft_ms is not None:
        aim, weak, strong = hold.ttft_ms / 1e3, tiers[0].ttft, tiers[-1].ttft
    else:
        assert hold.e2e_ms is not None
        aim, weak, strong = hold.e2e_ms / 1e3, tiers[0].e2e, tiers[-1].e2e
    if not weak.n or not strong.n:
        return 0.5
    if strong.value <= weak.value:
        return 1.0  # the better one, and the nearer to the aim
    return min(1.0, max(0.0, (aim - weak.value) / (strong.value - weak.value)))
