"""Quantiles of durations from counts in logarithmic buckets, never off by more than :data:`ERROR`.

DDSketch (Masson, Rim & Lee, VLDB 2019): bucket i holds the durations in (gamma^(i-1), gamma^i] times :data:`LEAST`,
and stands for the value that is as far from one end as from the other, relatively:

::

    gamma = (1 + a) / (1 - a),      i = ceil(log_gamma(x / LEAST)),      x' = 2 gamma^i / (gamma + 1) * LEAST

so that ``|x' - x| <= a x`` for each x in the bucket. Counts of two sketches are added, and taken away again, bucket
by bucket, and nothing is lost by it. There are some 1,100 buckets from :data:`LEAST` to :data:`MOST`; those that
hold nothing take no room.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import ceil, log

#: The bound on the relative error of a quantile.
ERROR = 0.01
#: Shorter durations count as this one, longer ones than MOST as that one; seconds.
LEAST, MOST = 1e-5, 36_000.0

_GAMMA = (1 + ERROR) / (1 - ERROR)
LAST = ceil(log(MOST / LEAST) / log(_GAMMA))

#: How many durations fell into which bucket.
Counts = dict[int, int]


#: The longest duration of each bucket but the last: looking up a logarithm is faster than taking it.
BOUNDS = tuple(LEAST * _GAMMA**i for i in range(LAST))


def bucket(seconds: float) -> int:
    """Return the bucket of a duration, 0 to :data:`LAST`."""
    return bisect_left(BOUNDS, seconds)


def middle(bucket: int) -> float:
    """Return the duration that ``bucket`` stands for, seconds."""
    return float(LEAST * 2 * _GAMMA**bucket / (_GAMMA + 1))


def quantiles(counts: Mapping[int, int], wanted: Sequence[float]) -> list[float]:
    """Return the quantiles ``wanted`` (0..1, ascending), seconds. Raises :class:`ValueError` if nothing was counted.

    Linear between the two values around q (n - 1), as ``hasten bench`` computes them of all values (definition 7 of
    Hyndman & Fan 1996): each of the two is off by :data:`ERROR` at most, and so is what lies between them.
    """
    total = sum(counts.values())
    if not total:
        raise ValueError("nothing was counted")
    ends: list[tuple[int, int]] = []  # how many lie up to the end of a bucket, the bucket
    seen = 0
    for at in sorted(counts):
        seen += counts[at]
        ends.append((seen, at))
    found = []
    i = 0
    for q in wanted:
        place = q * (total - 1)
        below = int(place)
        while ends[i][0] <= below:
            i += 1
        low = middle(ends[i][1])
        above = low if ends[i][0] > below + 1 or i + 1 == len(ends) else middle(ends[i + 1][1])
        found.append(low + (above - low) * (place - below))
    return found
