"""From a bound on wrong answers to a limit on the verifier's score.

Learn, then test (Angelopoulos et al. 2021): on pairs that training never saw, T true ones and M traps, for each limit t
from the strictest down, of which T_t and K_t would be served. The limit for a bound is the lowest t before the first at
which the share of wrong answers may pass the bound, where each trap of the data stands for w of them:

::

    share(t) = w u M / (T_t + w u M),     u = W(K_t, M)
    W(k, n) = (p + z^2/2n + z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n),     p = k/n      Wilson's upper limit

A fixed order of tests needs no correction for their number. ``verifier.json`` holds the limits for a row of bounds and
the curve P(wrong | score) for :mod:`hasten.cache.semantic.belief`; ``training/verifier/calibrate.py`` writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from hasten.dials import wilson

Z = 1.645  # one-sided 95%
FIRST = 5  # wrong answers that a bound allows where the tests begin


class Calibration(msgspec.Struct, frozen=True):
    """``limits``: (bound, lowest score that keeps it), by bound. ``a``, ``b``: P(wrong | s) = sigma(a - b s).

    ``traps``: how many were taken to come with each true pair.
    """

    limits: tuple[tuple[float, float], ...]
    a: float
    b: float
    pairs: int
    traps: float = 1.0

    def limit(self, bound: float) -> float | None:
        """Return the lowest score to serve under ``bound``; ``None`` if no score was shown to keep it."""
        held = [score for given, score in self.limits if given <= bound * (1 + 1e-9)]
        return min(held) if held else None


def load(path: Path) -> Calibration:
    """Read a calibration; raises OSError or :class:`msgspec.DecodeError`."""
    return msgspec.json.decode(path.read_bytes(), type=Calibration)


def lowest_limit(scored: Sequence[tuple[float, bool]], bound: float, weight: float = 1.0) -> float | None:
    """Return the lowest score such that it and all stricter ones keep the bound, from (score, right) of pairs.

    ``weight``: how many traps one of the data's stands for (w above). The first limit that is tested serves
    :data:`FIRST` / bound pairs: with fewer nothing could be shown. ``None``: even that one fails.
    """
    best = None
    right = wrong = 0
    ordered = sorted(scored, reverse=True)
    traps = sum(not good for _, good in ordered)
    for n, (score, good) in enumerate(ordered, 1):
        right, wrong = right + good, wrong + (not good)
        if n < FIRST / bound or (n < len(ordered) and ordered[n][0] == score):
            continue
        worst = weight * traps * wilson(wrong, traps, Z)[1]
        if worst > bound * (right + worst):
            break
        best = score
    return best
