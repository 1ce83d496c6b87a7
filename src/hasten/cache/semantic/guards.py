"""Guards: pairs of questions that surely ask for different answers, told by plain rules before any model is asked.

Each guard looks for something explicit in both texts that cannot be the same: other numbers, dates, names, a negation,
opposites, a direction turned round, another kind of question. What only one text says explicitly is no conflict.
"""

from __future__ import annotations

from hasten.cache.semantic.differences import CHECKS, pair
from hasten.cache.semantic.profile import Profile, profile

LONGEST = 2_000  # characters


def conflict(a: str, b: str) -> str | None:
    """Return why two questions surely ask for different answers ("number: 5 / 50"), or ``None``."""
    if a == b or len(a) > LONGEST or len(b) > LONGEST:
        return None
    return between(profile(a), profile(b))


def between(one: Profile, other: Profile) -> str | None:
    """Return the first conflict between two profiles."""
    both = pair(one, other)
    for check in CHECKS:
        reason = check(both)
        if reason:
            return reason
    return None
