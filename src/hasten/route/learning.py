"""What judgements of the weak tier's answers teach: a correction of the router's score, small, bounded, watched.

The router is frozen, and was fitted on other people's traffic. Where it is too sure, or not sure enough, on this one's,
two numbers put it right. They move no request past another: a is positive, so the order of scores stays.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

EDGE = 1e-4  # scores are taken as at least this far from 0 and 1
A, B = (0.5, 2.0), (-2.0, 2.0)  # what a and b may be
PRIOR = (16.0, 4.0)  # how strongly a and b are held to 1 and 0: the inverse of 0.25^2 and 0.5^2
HALF_LIFE = 500.0  # examples after which one counts half
RECENT = 500  # examples that the log loss is taken over
ALARM = math.log(1000.0)

Finite = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Learnt(msgspec.Struct, forbid_unknown_fields=True):
    """All that is kept: the two numbers, their precision matrix, the watch on them; ``at``: seconds of the clock.

    ``losses``: of the last examples, log loss without and with the correction, in nats.
    """

    a: Annotated[float, msgspec.Meta(ge=A[0], le=A[1])] = 1.0
    b: Annotated[float, msgspec.Meta(ge=B[0], le=B[1])] = 0.0
    aa: Finite = PRIOR[0]
    ab: Finite = 0.0
    bb: Finite = PRIOR[1]
    examples: Count = 0
    evidence: Finite = 0.0
    off: bool = False
    at: float = 0.0
    losses: Annotated[list[tuple[Finite, Finite]], msgspec.Meta(max_length=RECENT)] = []

    def check(self) -> None:
        """Raise :class:`ValueError` for a precision that no examples lead to: it is never below the one at first."""
        a, b = self.aa - PRIOR[0], self.bb - PRIOR[1]
        if min(a, b, a * b - self.ab * self.ab) < -1e-6 * (1.0 + self.aa * self.bb):
            raise ValueError("its precision matrix is none")


class Learner:
    """An online logistic layer over the frozen score p (Platt 1999), t = (a, b), x = (logit p, 1)::

        p' = sigmoid(a logit p + b),    a in [0.5, 2],  b in [-2, 2],  at first t0 = (1, 0)

    Each example y (1: fell short) is one Newton step of the logistic loss with an L2 pull to t0 that never fades, and
    older examples fading by g = 2^(-1/500) (sequential Laplace approximation, Spiegelhalter and Lauritzen 1990; the
    fading as in recursive least squares)::

        L <- g L + (1 - g) L0 + p'(1 - p') x x^T,    L0 = diag(16, 4), at first L = L0
        t <- clip(t + L^-1 [(y - p') x + (1 - g) L0 (t0 - t)])

    ``share`` of it is applied: a_s = 1 + share (a - 1), b_s = share b. Before an example teaches it is a test of what
    was learnt until then (progressive validation, Blum et al. 1999; Dawid's prequential 1984). The log likelihood ratio
    of the frozen score to the corrected one is summed as in :class:`hasten.dials.Alarm` (Page 1954)::

        S <- max(0, S) + loss(p'_s) - loss(p),    off when S >= log 1000

    While the corrected score is right this comes on average not before 1000 examples (Lorden 1971), and it comes for
    sure while the frozen one is better. What is off stays off until :meth:`reset`.
    """

    def __init__(self, share: float, clock: Callable[[], float], learnt: Learnt | None = None) -> None:
        self.share = share
        self._clock = clock
        self.take(learnt or Learnt())

    def take(self, learnt: Learnt) -> None:
        """Go on from ``learnt``."""
        self._learnt = learnt
        self._losses = deque(learnt.losses, RECENT)
        self._apply()

    def learnt(self) -> Learnt:
        """Return all that is to be kept."""
        return msgspec.structs.replace(self._learnt, losses=list(self._losses))

    @property
    def active(self) -> bool:
        """Whether the correction is applied."""
        return self.share > 0.0 and not self._learnt.off

    def corrected(self, p: float) -> float:
        """Return the score to use in place of the frozen one."""
        if self._a == 1.0 and self._b == 0.0:
            return p
        return _sigmoid(self._a * _logit(p) + self._b)

    def saw(self, p: float, fell_short: float) -> None:
        """Learn from a judgement of a weak tier's answer to a prompt whose frozen score was ``p``.

        ``fell_short``: 1 for a bad answer, 0 for a good one, or between.
        """
        self._watch(p, fell_short)
        s = self._learnt
        fade = 2.0 ** (-1.0 / HALF_LIFE)
        pull = 1.0 - fade
        x = _logit(p)
        guess = _sigmoid(s.a * x + s.b)
        weight = guess * (1.0 - guess)
        s.aa = fade * s.aa + pull * PRIOR[0] + weight * x * x
        s.ab = fade * s.ab + weight * x
        s.bb = fade * s.bb + pull * PRIOR[1] + weight
        up_a = (fell_short - guess) * x + pull * PRIOR[0] * (1.0 - s.a)
        up_b = (fell_short - guess) + pull * PRIOR[1] * (0.0 - s.b)
        det = s.aa * s.bb - s.ab * s.ab  # L >= L0, so at least that of L0
        s.a = min(A[1], max(A[0], s.a + (s.bb * up_a - s.ab * up_b) / det))
        s.b = min(B[1], max(B[0], s.b + (s.aa * up_b - s.ab * up_a) / det))
        s.examples += 1
        s.at = self._clock()
        self._apply()

    def reset(self) -> None:
        """Forget all, and be on again."""
        self.take(Learnt(at=self._clock()))

    def view(self) -> dict[str, Any]:
        """Return what was learnt, and what it is worth: log loss over the last examples, in nats."""
        s = self._learnt
        n = len(self._losses)
        frozen, corrected = (sum(pair[i] for pair in self._losses) / n if n else None for i in (0, 1))
        return {
            "share": self.share,
            "active": self.active,
            "turned_off": s.off,
            "a": s.a,
            "b": s.b,
            "examples": s.examples,
            "evidence_against": max(0.0, s.evidence) / ALARM,
            "log_loss": {"of_last": n, "frozen": frozen, "corrected": corrected},
            "at": s.at or None,
        }

    def _watch(self, p: float, y: float) -> None:
        """Test what was learnt, as if it were on."""
        s = self._learnt
        a, b = self._scaled()
        frozen, corrected = _loss(_logit(p), y), _loss(a * _logit(p) + b, y)
        self._losses.append((frozen, corrected))
        if not s.off:
            s.evidence = max(0.0, s.evidence) + corrected - frozen
            s.off = s.evidence >= ALARM

    def _scaled(self) -> tuple[float, float]:
        s = self._learnt
        return 1.0 + self.share * (s.a - 1.0), self.share * s.b

    def _apply(self) -> None:
        self._a, self._b = self._scaled() if self.active else (1.0, 0.0)

    def __repr__(self) -> str:
        s = self._learnt
        return f"<Learner a {s.a:.3f}, b {s.b:+.3f}, {s.examples} examples{' off' * s.off}>"


def _logit(p: float) -> float:
    p = min(1.0 - EDGE, max(EDGE, p))
    return math.log(p / (1.0 - p))


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def _loss(x: float, y: float) -> float:
    """Return -y log s(x) - (1 - y) log(1 - s(x))."""
    return max(x, 0.0) - x * y + math.log1p(math.exp(-abs(x)))
