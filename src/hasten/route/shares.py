"""How often the strong tier is chosen: thresholds on a score that follow the traffic.

A router's scores are spread differently in every deployment, and differently tomorrow. So a share is not held by a
fixed threshold, but by a quantile of the scores seen lately, corrected by what was overspent.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

BINS = 256
REFRESH = 16  # observations between two looks at the histogram: a look takes about 10 us


class Scores:
    """The distribution of recent scores: a histogram over [0, 1] in which an observation's weight decays.

    ::

        weight of the n-th last observation = 2^(-n / half_life)
    """

    def __init__(self, prior: list[float] | None = None, half_life: float = 400.0) -> None:
        """``prior``: scores at the start, such as the router's validation scores at even steps; together they
        weigh as much as 32 observations."""
        self._grow = 2.0 ** (1.0 / half_life)
        self._weight = 1.0
        self._bins = [0.0] * BINS
        prior = prior or [(i + 0.5) / BINS for i in range(BINS)]
        for score in prior:
            self._bins[_bin(score)] += 32.0 / len(prior)
        self._since = 0
        self._sums: list[float] = list(accumulate(self._bins))

    def saw(self, score: float) -> None:
        """Take one score in."""
        self._weight *= self._grow
        self._bins[_bin(score)] += self._weight
        if self._weight > 1e9:
            self._bins = [b / self._weight for b in self._bins]
            self._weight = 1.0
            self._since = REFRESH
        self._since += 1
        if self._since >= REFRESH:
            self._since = 0
            self._sums = list(accumulate(self._bins))

    def quantile(self, q: float) -> float:
        """Return the score below which the share ``q`` of recent requests lies; 0 or 1 for q outside (0, 1)."""
        if q <= 0.0:
            return 0.0
        if q >= 1.0:
            return 1.0
        sums = self._sums
        wanted = q * sums[-1]
        i = bisect_left(sums, wanted)
        below = sums[i - 1] if i else 0.0
        return (i + (wanted - below) / (sums[i] - below)) / BINS

    def share_for_quality(self, quality: float) -> float:
        """Return the smallest share for the strong tier with which the share ``quality`` is expected to be answered as
        well as by it.

        The score is the probability that the weak tier falls short. Sent to it are those with the lowest scores::

            (sum of scores of those sent weak) / (all requests) <= 1 - quality
        """
        total = self._sums[-1]
        allowed = (1.0 - quality) * total
        spent = sent = 0.0
        for i, weight in enumerate(self._bins):
            middle = (i + 0.5) / BINS
            if spent + weight * middle > allowed:
                sent += (allowed - spent) / middle
                break
            spent += weight * middle
            sent += weight
        return max(0.0, 1.0 - sent / total)

    def __repr__(self) -> str:
        return f"<Scores median {self.quantile(0.5):.3f}>"


class ShareKeeper:
    """Meets a share of choices over every stretch of traffic, whatever the scores are.

    What was chosen too often so far moves the quantile::

        debt <- debt + chosen - share                   (in requests, bounded to +-LIMIT)
        choose  if  score > Q(1 - share + shift),     shift = debt / SOFT * (1 + (debt / HARD)^2)

    A small debt hardly moves the threshold, so that chance does not send easy requests up; a large one moves it all
    the way, so that a sudden change of the traffic costs at most some 20 requests: two points of a thousand. Choices
    made for other reasons (a conversation's tier, a constraint) are counted too, and made up for, unless they alone
    are more than the share.
    """

    SOFT = 80.0
    HARD = 8.0
    LIMIT = 30.0

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.debt = 0.0
        self.share = 0.5

    @property
    def threshold(self) -> float:
        """The score above which a request is chosen now."""
        if self.share <= 0.0:
            return 1.0
        if self.share >= 1.0:
            return -1.0
        shift = self.debt / self.SOFT * (1.0 + (self.debt / self.HARD) ** 2)
        return self.scores.quantile(1.0 - self.share + shift)

    def chooses(self, score: float) -> bool:
        """Return whether the share has room for a request with ``score``."""
        threshold = self.threshold
        return score > threshold or (score == threshold and self.share > 0.0 and self.debt < 0.0)

    def chose(self, chosen: bool) -> None:
        """Note what was done in the end."""
        if 0.0 < self.share < 1.0:
            self.debt = min(self.LIMIT, max(-self.LIMIT, self.debt + chosen - self.share))

    def __repr__(self) -> str:
        return f"<ShareKeeper {self.share:.3f}, debt {self.debt:+.1f}, threshold {self.threshold:.3f}>"


def _bin(score: float) -> int:
    return min(BINS - 1, max(0, int(score * BINS)))
