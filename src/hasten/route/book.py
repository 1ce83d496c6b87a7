"""The book on routing: what became of each request by side of the dial, who judged it, and what that taught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any, Literal, Protocol
from zlib import crc32

import msgspec

from hasten.board import Board
from hasten.errors import UnknownRequest
from hasten.route.keeping import Kept
from hasten.route.learning import Learner
from hasten.route.recent import JUDGED, TAUGHT, UNKNOWN, Recent, Served
from hasten.settings import Model, Price, Settings
from hasten.trace import Trace

NEWS = 4096  # bytes of the ring on which workers hear that something was learnt


class Counter(Protocol):
    """What adds up."""

    def add(self, amount: float = 1.0) -> None:
        """Count ``amount`` more."""


class Counters(Protocol):
    """Finds or makes the counter of a metric with labels."""

    def __call__(self, name: str, /, *labels: str) -> Counter:
        """Return it."""


class Uncounted:
    """Counts nothing."""

    def __call__(self, name: str, /, *labels: str) -> Counter:
        return self

    def add(self, amount: float = 1.0) -> None:
        """Do nothing."""


class _Moments:
    """A measure's count, sum and sum of squares."""

    __slots__ = ("_count", "_squares", "_sum")

    def __init__(self, counters: Counters, model: str, side: str, measure: str) -> None:
        self._count, self._sum, self._squares = (
            counters("hasten_route_measured_total", model, side, measure, moment)
            for moment in ("count", "sum", "squares")
        )

    def saw(self, value: float) -> None:
        """Take one observation in."""
        self._count.add()
        self._sum.add(value)
        self._squares.add(value * value)


class Book:
    """What the route stage tells of its requests. ``folder``: where workers share files, if there are several.

    ``former``: the book under the settings before. Its requests are remembered on, and what was learnt of a name holds
    as long as its tiers and its router are the same.
    """

    def __init__(
        self,
        settings: Settings,
        counters: Counters | None = None,
        folder: Path | None = None,
        clock: Callable[[], float] = time,
        former: Book | None = None,
    ) -> None:
        routed = {name: model for name, model in settings.models.items() if model.tiers}
        self._settings = routed  # of the routed names only
        self._counters: Counters = Uncounted() if counters is None else counters
        # Workers with other settings write the same table: a name whose tiers changed is another one.
        self._ids = {name: _digest(name, *model.tiers) for name, model in routed.items()}
        self._names = {id: name for name, id in self._ids.items()}
        self._tiers = {name: list(model.tiers) for name, model in routed.items()}
        self._moments: dict[tuple[str, str, str], _Moments] = {}
        self._board = Board(folder / "learnt", NEWS) if folder is not None else None
        table = folder / "recent" if folder is not None else None
        self.recent: Recent = former.recent if former is not None else Recent(clock, table)
        self.learners = {
            name: self._kept(name, model, self._learner(name, model, clock, former), folder)
            for name, model in routed.items()
            if model.route.learn.share
        }

    def _learner(self, name: str, model: Model, clock: Callable[[], float], former: Book | None) -> Learner:
        """Return the former book's, one that has learnt the same, or a new one."""
        given = model.route.learn
        kept = former.learners.get(name) if former is not None else None
        if former is None or kept is None:
            return Learner(given.share, clock)
        old = former._settings[name]
        if (old.tiers, old.route.router) != (model.tiers, model.route.router):
            return Learner(given.share, clock)  # what was learnt was learnt of another score
        return (
            kept.learner if old.route.learn == given else Learner(given.share, clock, kept.learner.learnt())
        )

    def _kept(self, name: str, model: Model, learner: Learner, folder: Path | None) -> Kept:
        given = model.route.learn.path
        path = Path(given).expanduser() if given is not None else None
        if path is None and folder is not None:
            path = folder / f"learnt-{_digest(name, *model.tiers, model.route.router or ''):08x}.json"
        return Kept(learner, path, self._tell)

    # -- from the stage

    def corrected(self, name: str, score: float) -> float:
        """Return the score to decide by: with what all workers have learnt."""
        self.listen()
        kept = self.learners.get(name)
        return score if kept is None else kept.learner.corrected(score)

    def begun(self, trace: Trace, name: str, level: int, side: str, score: float | None) -> None:
        """Note a decision. ``side``: empty where the client chose.

        ``score``: the router's own, not corrected; ``None`` for a turn without a difficulty, which teaches nothing.
        """
        trace.side = side
        marks = 0 if score is not None else TAUGHT
        served = Served(self._ids[name], level, side, score or 0.0, marks)
        self.recent.put(trace.tenant, trace.id, served)

    def done(
        self, trace: Trace, name: str, tier: str, took: float, first: float | None, cost: float | None
    ) -> None:
        """Note a complete answer.

        ``took``, ``first``: seconds to its end and, of a stream, to its first event. ``cost``: of all that was paid for
        it, discarded answers too; ``None`` where no price is known.
        """
        answered = trace.served_model or tier
        if answered != tier:
            self._answered_by(trace, name, answered)
        if not trace.side:
            return
        self._saw(name, trace.side, "e2e_seconds", took)
        if first is not None:
            self._saw(name, trace.side, "ttft_seconds", first)
        if cost is not None:
            self._saw(name, trace.side, "cost", cost)

    def _answered_by(self, trace: Trace, name: str, answered: str) -> None:
        """Note that another tier answered than was chosen, or none of them."""
        served = self.recent.get(trace.tenant, trace.id)
        if served is not None:
            tiers = self._tiers[name]
            level = tiers.index(answered) if answered in tiers else UNKNOWN
            self.recent.put(trace.tenant, trace.id, served._replace(level=level))

    def _saw(self, name: str, side: str, measure: str, value: float) -> None:
        key = (name, side, measure)
        moments = self._moments.get(key)
        if moments is None:
            moments = self._moments[key] = _Moments(self._counters, *key)
        moments.saw(value)

    # -- from those who judge

    def feedback(self, tenant: str, id: str, score: float) -> dict[str, Any]:
        """Take in a client's judgement of an answer, 0 to 1; the first one counts. Raises :class:`UnknownRequest`."""
        served = self.recent.get(tenant, id)
        if served is None or served.name not in self._names:
            raise UnknownRequest(
                "no answer with this id is remembered: it is not x-request-id of one of your requests for a routed "
                "model, it was answered from the cache, or it is too long ago"
            )
        name = self._names[served.name]
        tier = self._tiers[name][served.level] if served.level != UNKNOWN else "other"
        verdict: Literal["good", "bad"] = "good" if score >= 0.5 else "bad"
        counted = not served.marks & JUDGED
        if counted:
            self.recent.put(tenant, id, served._replace(marks=served.marks | JUDGED))
            self._counters("hasten_route_feedback_total", name, tier, verdict).add()
            if served.side:
                self._saw(name, served.side, "feedback", score)
            if served.level == 0:  # what a stronger tier's answer is worth says nothing of the weakest
                self.verdict(id, 1.0 - score, tenant)
        return {"id": id, "model": name, "tier": tier, "counted": counted}

    def verdict(self, id: str, fell_short: float, tenant: str = "") -> bool:
        """Learn that the weakest tier's answer fell short (1), or did not (0), whoever found out.

        Returns whether that taught something: each request teaches once, and only where learning is on.
        """
        served = self.recent.get(tenant, id)
        if served is None or served.marks & TAUGHT:
            return False
        kept = self.learners.get(self._names.get(served.name, ""))
        if kept is None:
            return False
        self.recent.put(tenant, id, served._replace(marks=served.marks | TAUGHT))
        kept.saw(served.score, fell_short)
        return True

    # -- between workers

    def listen(self) -> None:
        """Take over what other workers have learnt."""
        if self._board is not None and not self._board.quiet:
            self._board.read()
            self._load()

    def _tell(self) -> None:
        if self._board is not None and self._board.tell(b"learnt") != []:
            self._load()

    def _load(self) -> None:
        for kept in self.learners.values():
            kept.load()

    def close(self) -> None:
        """Leave the ring."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def __repr__(self) -> str:
        return f"<Book {list(self._ids)} {self.learners}>"


def _digest(*names: str) -> int:
    return crc32(msgspec.json.encode(names))


def cost_of(trace: Trace, price: Price) -> float:
    """Return what a request's tokens cost."""
    output = trace.output_tokens if trace.output_tokens is not None else trace.tokens_seen
    return ((trace.input_tokens or 0) * price.input + output * price.output) / 1e6
