"""What a cache's hits are worth: pure functions from labels and served answers to shares with their intervals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from hasten.bench.stats import describe
from hasten.dials import wilson

Messages = list[dict[str, str]]
#: ``other``: the answer of a question of which the data does not say that it asks the same.
Verdict = Literal["right", "wrong", "other", ""]
_NOISE = re.compile(r"[\W_]+")


class Pair(NamedTuple):
    """Two questions and whether one answer fits both. ``trap``: what kind of pair it is."""

    a: Messages
    b: Messages
    same: bool
    trap: str


class Outcome(NamedTuple):
    """What became of a pair's ``b``. ``kind``: the cache's word; ``served``: whose answer came, if it was a hit."""

    pair: Pair
    kind: str
    verdict: Verdict
    served: str = ""
    ms: float = 0.0
    why: str = ""

    @property
    def hit(self) -> bool:
        return bool(self.verdict)

    @property
    def held(self) -> bool:
        return not self.hit and self.why.startswith("holdback")


def form(messages: Messages) -> str:
    """Return what tells a question from all others."""
    return "\n".join(f"{m['role']}: {m['content']}" for m in messages)


def plain(text: str) -> str:
    """Return ``text`` without case, punctuation and white space."""
    return _NOISE.sub("", text.lower())


class Labels:
    """What the data says of two questions, in either order; a contradiction counts as "different"."""

    def __init__(self) -> None:
        self._same: dict[tuple[str, str], bool] = {}

    def add(self, a: str, b: str, same: bool) -> None:
        """Take in one labelled pair of forms."""
        key = (a, b) if a <= b else (b, a)
        self._same[key] = same and self._same.get(key, True)

    def of(self, a: str, b: str) -> bool | None:
        """Return the label of two forms, ``None`` if the data has none."""
        return self._same.get((a, b) if a <= b else (b, a))


def judge(served: str, pair: Pair, labels: Labels) -> Verdict:
    """Return what it means that the answer to ``served`` (a form) was given to the pair's ``b``."""
    asked = form(pair.b)
    if served == form(pair.a) and served != asked:
        return "right" if pair.same else "wrong"
    if plain(served) == plain(asked):
        return "right"
    label = labels.of(served, asked)
    if label is None:
        return "other"
    return "right" if label else "wrong"


def best_threshold(scored: Sequence[tuple[float, bool]], share: float) -> float | None:
    """Return the lowest score from which at most ``share`` of the hits are wrong, from (score, right) of all pairs.

    Lower thresholds only add hits, so the lowest has the highest recall. ``None``: no threshold keeps it.
    """
    best = None
    wrong = 0
    ordered = sorted(scored, reverse=True)
    for n, (score, right) in enumerate(ordered, 1):
        wrong += not right
        if n < len(ordered) and ordered[n][0] == score:
            continue
        if wrong <= share * n:
            best = score
    return best


class Share(NamedTuple):
    """``k`` of ``n`` with the 95% Wilson interval."""

    k: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.k, self.n)

    def __str__(self) -> str:
        if not self.n:
            return "–"
        low, high = self.interval
        return f"{self.k / self.n:.1%} [{low:.1%}, {high:.1%}]"

    def as_json(self) -> dict[str, Any]:
        """Return the counts, the share and its interval."""
        return {"k": self.k, "n": self.n, "share": self.k / self.n if self.n else None, "ci95": self.interval}


class Tally:
    """Outcomes, counted. ``recall``: right hits of all pairs that are the same; ``wrong``: share of the hits."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        hits = [o for o in outcomes if o.hit]
        same = [o for o in outcomes if o.pair.same]
        self.pairs = len(outcomes)
        self.hits = len(hits)
        self.held = sum(o.held for o in outcomes)
        self.kinds = Counter(o.kind for o in outcomes)
        self.right = sum(o.verdict == "right" for o in hits)
        self.other = sum(o.verdict == "other" for o in hits)
        self.recall = Share(sum(o.verdict == "right" for o in same), len(same))
        self.wrong = Share(self.hits - self.right, self.hits)
        self.traps = _traps(outcomes)
        self.hit_ms = describe(o.ms for o in hits)
        self.miss_ms = describe(o.ms for o in outcomes if not o.hit)
        self.others = [(o.served, form(o.pair.b)) for o in hits if o.verdict == "other"]
        self.whys = Counter(re.sub(r"-?\d+\.\d+", "x", o.why) for o in outcomes if not o.hit)

    def as_json(self) -> dict[str, Any]:
        """Return the figures; none of the data's texts."""
        return {
            "pairs": self.pairs,
            "hits": self.hits,
            "right": self.right,
            "wrong": self.wrong.as_json(),
            "of_wrong_other": self.other,
            "recall": self.recall.as_json(),
            "held_back": self.held,
            "kinds": self.kinds,
            "wrong_per_trap": {name: share.as_json() for name, share in self.traps.items()},
            "hit_ms": _ms(self.hit_ms),
            "miss_ms": _ms(self.miss_ms),
            "why_not": dict(self.whys.most_common()),
        }


def _traps(outcomes: Sequence[Outcome]) -> Mapping[str, Share]:
    """Return wrong hits of all pairs, for each kind of pair whose two questions ask different things."""
    pairs = Counter(o.pair.trap for o in outcomes if not o.pair.same)
    wrong = Counter(o.pair.trap for o in outcomes if not o.pair.same and o.verdict in ("wrong", "other"))
    return {name: Share(wrong[name], n) for name, n in sorted(pairs.items())}


def _ms(stats: Any) -> dict[str, float] | None:
    return None if stats is None else {"p50": stats.p50, "p99": stats.p99}
