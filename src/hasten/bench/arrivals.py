"""When requests are due, and when a run is over. Times are seconds since the run's start."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import Literal

Arrival = Literal["constant", "poisson"]


def constant(rate: float) -> Iterator[float]:
    """Yield due times 1/rate apart, the first at 0. ``rate`` in requests/s."""
    return (i / rate for i in count())


def poisson(rate: float, rng: random.Random) -> Iterator[float]:
    """Yield the due times of a Poisson process: independent exponential gaps with mean 1/rate."""
    at = 0.0
    while True:
        at += rng.expovariate(rate)
        yield at


def arrivals(kind: Arrival, rate: float, seed: int) -> Iterator[float]:
    """Return the due times of the named process; the same ``seed`` gives the same times."""
    return constant(rate) if kind == "constant" else poisson(rate, random.Random(seed))


class Budget:
    """How much of a run is left: a number of requests, a number of seconds, or both (whichever ends first)."""

    def __init__(self, requests: int | None = None, seconds: float | None = None) -> None:
        if requests is None and seconds is None:
            raise ValueError("a run needs an end: requests, seconds, or both")
        self.requests = requests
        self.seconds = seconds
        self.taken = 0

    def take(self, at: float) -> bool:
        """Whether one more request may begin at ``at``; if so it is counted."""
        if self.requests is not None and self.taken >= self.requests:
            return False
        if self.seconds is not None and at >= self.seconds:
            return False
        self.taken += 1
        return True

    def __repr__(self) -> str:
        return f"<Budget {self.taken} taken of {self.requests or 'any'} requests, {self.seconds or 'any'} s>"
