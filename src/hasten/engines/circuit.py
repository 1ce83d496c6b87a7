"""A circuit breaker: a failing engine is left alone for a while, then probed with one request.

    closed --failures in a row--> open --after its time--> half-open --success--> closed
                                   ^                          |
                                   +--------- failure --------+   (the time doubles, up to a limit)

After M. Nygard, "Release It!", with the doubling of an exponential backoff. A ``Retry-After`` of the engine is
kept apart: it closes the engine to traffic until its time, and is no failure.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from hasten.settings import Circuit as CircuitSettings


class Circuit:
    """Decides whether an engine may be tried. Synchronous; ``clock`` gives seconds."""

    def __init__(
        self, settings: CircuitSettings | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self.settings = settings or CircuitSettings()
        self._clock = clock
        self.failures = 0  # in a row
        self._opened = 0  # times in a row that it opened without a success between
        self._until = 0.0
        self._probing = False
        self._resting_until = 0.0

    @property
    def state(self) -> str:
        """``closed``, ``open``, ``half_open`` or ``resting`` (the engine asked for a pause)."""
        if self._resting_until and self._clock() < self._resting_until:
            return "resting"
        if not self._opened:
            return "closed"
        return "half_open" if self._probing or self._clock() >= self._until else "open"

    @property
    def wait(self) -> float:
        """Seconds until it may be tried; 0 if now."""
        if not self._opened and not self._resting_until:
            return 0.0
        now = self._clock()
        until = max(self._resting_until, self._until if self._opened else 0.0)
        return max(0.0, until - now)

    def allows(self) -> bool:
        """Whether a request may go now. The caller that sends one must call :meth:`begin`, too."""
        if not self._opened and not self._resting_until:  # the usual case, without a look at the clock
            return True
        return self.wait == 0.0 and not self._probing

    def begin(self) -> None:
        """A request goes to the engine; in the half-open state it is the one probe."""
        if self._opened:
            self._probing = True

    def success(self) -> None:
        """It answered (an error of the client's making counts as an answer)."""
        self.failures = self._opened = 0
        self._probing = False
        if self._resting_until and self._clock() >= self._resting_until:  # a pause asked for is kept
            self._resting_until = 0.0

    def alive(self) -> None:
        """It began to answer: others may go there, but what counts is how the answer ends."""
        self._opened = 0
        self._probing = False

    def failure(self) -> None:
        """It failed. Opens after the configured number in a row, and at once when a probe fails."""
        self.failures += 1
        if self._probing or (not self._opened and self.failures >= self.settings.failures):
            self._probing = False
            self._until = self._clock() + min(self.settings.open * 2**self._opened, self.settings.open_max)
            self._opened = min(self._opened + 1, 32)

    def ignore(self) -> None:
        """The request ended without a word on the engine's health (the client left)."""
        self._probing = False

    def rest(self, seconds: float) -> None:
        """The engine asked to be left alone for ``seconds``."""
        self._probing = False
        self._resting_until = self._clock() + max(0.0, seconds)

    def __repr__(self) -> str:
        return f"<Circuit {self.state}, {self.failures} failures, wait {self.wait:.1f} s>"
