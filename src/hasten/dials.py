"""Dials: for which share of the traffic an optimisation may act, and which part goes without it to compare.

A request is placed by its key, so that the same one always falls on the same side (sticky), on every worker and
machine: u = hash(dial, key) / 2^64 is uniform in [0, 1).

::

    u < holdback                    holdback: never acted on, measured
    u < holdback + level(1 - h)     act
    else                            off
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Literal

Side = Literal["act", "holdback", "off"]


class Alarm:
    """Says when the share of wrong ones is surely over a bound p, however often it is asked.

    Page's (1954) cumulative sum of the log-likelihood ratio of the alternative q = 5p. It does not sink below
    0, so a long good time buys no later bad one; while the true share is at most p the mean time to a false
    alarm is at least 1/alpha observations (Lorden 1971).

    ::

        S_n = max(0, S_(n-1)) + (x log(q/p) or, for a right one, log((1-q)/(1-p))),      alarm when S_n >=
        log(1/alpha)
    """

    __slots__ = ("_log", "_right", "_threshold", "_wrong")

    def __init__(self, bound: float, alpha: float = 0.001) -> None:
        q = min(5 * bound, (1 + bound) / 2)
        self._wrong = math.log(q / bound)
        self._right = math.log((1 - q) / (1 - bound))
        self._threshold = -math.log(alpha)
        self._log = 0.0

    def saw(self, wrong: bool) -> bool:
        """Take one observation in; return whether the alarm has gone off."""
        if self._log < self._threshold:  # once off, it stays
            self._log = max(0.0, self._log) + (self._wrong if wrong else self._right)
        return self._log >= self._threshold


class Dial:
    """One optimisation's dial. ``level`` may be turned at run time; ``holdback`` is a share of all eligible traffic."""

    __slots__ = ("_salt", "holdback", "level", "name")

    def __init__(self, name: str, level: float, holdback: float = 0.0) -> None:
        self.name = name
        self.level = level
        self.holdback = holdback
        self._salt = name.encode()[:16]

    def side(self, key: bytes) -> Side:
        """Return on which side the request with ``key`` falls."""
        digest = blake2b(key, digest_size=8, salt=self._salt).digest()
        u = int.from_bytes(digest, "big") / 2.0**64
        if u < self.holdback:
            return "holdback"
        return "act" if u < self.holdback + self.level * (1.0 - self.holdback) else "off"

    def __repr__(self) -> str:
        return f"<Dial {self.name} {self.level:g}, holdback {self.holdback:g}>"


def wilson(wrong: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson interval of a share (Wilson 1927); (0, 1) for no observations."""
    if n == 0:
        return 0.0, 1.0
    p = wrong / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
