"""The last semantic look-ups that had a candidate: what was served, what was refused and why.

Kept in memory only, for whoever runs the gateway. Texts are held no longer than the ring is long, and go with a
tenant's purge.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from time import time
from typing import Any, NamedTuple

LENGTH = 200


class Look(NamedTuple):
    """One look-up with a candidate. ``verdict``: hit, held (by the holdback), refused. ``score``: logit or ``None``."""

    tenant: str
    asked: str
    stored: str
    score: float | None
    verdict: str
    why: str
    at: float = 0.0


class Report:
    """The ring of the last looks."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._looks: deque[Look] = deque(maxlen=LENGTH)
        self._clock = clock

    def add(self, look: Look) -> None:
        """Keep one look."""
        self._looks.append(look._replace(at=self._clock()))

    def purge(self, tenant: str) -> None:
        """Forget what ``tenant`` asked."""
        kept = [look for look in self._looks if look.tenant != tenant]
        self._looks.clear()
        self._looks.extend(kept)

    def clear(self) -> None:
        """Forget all of them."""
        self._looks.clear()

    def view(self, tenant: str | None = None) -> dict[str, Any]:
        """Return the looks, newest first, and how many there are of each verdict; of one tenant if given."""
        looks = [look._asdict() for look in reversed(self._looks) if tenant in (None, look.tenant)]
        return {"looks": looks, "verdicts": dict(Counter(look["verdict"] for look in looks))}
