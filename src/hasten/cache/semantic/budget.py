"""Which look-ups may use the models when more is asked than they can do.

::

    demand = look-ups wanted a second * seconds of the models' thread that one takes
    price  = seconds that one takes / worth of the scope
    worth  = min(1, GAIN * share of the scope's look-ups that ended in a hit), but never below SAMPLE

While the demand is at most HEAVY * ``share``, every question is looked up. Above it a look-up is paid from a purse that
fills with ``share`` seconds a second. So a scope whose look-ups end in hits gets all that the models can do; one that
only has new questions gets a twentieth of it, which is enough to notice when that changes.

Seconds are the wall clock's: on a core that others use too, the thread can do less, and a look-up takes longer.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from time import monotonic

GAIN = 10.0  # one hit in ten is worth every look-up: an answer takes an engine far longer than ten take the models
SAMPLE = 0.05
HEAVY = 1.5  # clients that ask one after the other never want much more than 1
RECENT = 16  # look-ups over which a scope's hits are counted, as an exponential mean
SMOOTH = 2.0  # seconds over which the demand is counted, likewise
CREDIT = 0.25  # seconds of the purse at most
SCOPES = 1024


class Budget:
    """Admits look-ups. ``share``: of the models' thread's time, how much they may take. ``clock``: seconds."""

    def __init__(self, share: float, clock: Callable[[], float] = monotonic) -> None:
        self.share = share
        self._clock = clock
        self._at = clock()
        self._wanted = 0.0  # look-ups, each one's weight falling with its age
        self._cost = 0.01  # seconds a look-up
        self._credit = CREDIT
        self._all = 1.0  # share of hits of all look-ups: what is thought of a scope that is new
        self._shares: dict[bytes, float] = {}

    def _pass(self) -> None:
        """Take in the time that has passed."""
        now = self._clock()
        passed, self._at = now - self._at, now
        self._wanted *= exp(-passed / SMOOTH)
        self._credit = min(CREDIT, self._credit + passed * self.share)

    @property
    def demand(self) -> float:
        """Threads that it would take to look everything up."""
        return self._wanted / SMOOTH * self._cost

    @property
    def light(self) -> bool:
        """Whether the models have time for all that is asked."""
        self._pass()
        return self.demand <= HEAVY * self.share

    def admit(self, scope: bytes) -> bool:
        """Count a look-up that is wanted; return whether it may be made."""
        self._pass()
        self._wanted += 1.0
        if self.demand <= HEAVY * self.share:
            return True
        if self._credit <= 0:
            return False
        self._credit -= self._cost / self._worth(scope)
        return True

    def _worth(self, scope: bytes) -> float:
        return max(SAMPLE, min(1.0, GAIN * self._shares.get(scope, self._all)))

    def done(self, scope: bytes, seconds: float, hit: bool) -> None:
        """Learn from a look-up that was made: its time, and whether it found what may be served."""
        self._cost += (seconds - self._cost) / RECENT
        self._all += (hit - self._all) / RECENT
        share = self._shares.pop(scope, self._all)
        if len(self._shares) >= SCOPES:
            del self._shares[next(iter(self._shares))]  # the one that was looked up in longest ago
        self._shares[scope] = share + (hit - share) / RECENT

    def __repr__(self) -> str:
        return f"<Budget {self.demand:.2f} of {self.share:g} threads wanted>"
