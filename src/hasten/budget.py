"""Latency budgets of stages: which ones overspent, and what a request has left for what may be left out.

A request has an account. Each stage with a budget pays that in when the request comes to it, and takes out the time
that it takes. So while stage s runs, since ``since``, there is left::

    left(s) = budget(s) - (now - since)
            + sum of budget(b) - took(b) over the stages b with a budget that the request has been through

What an earlier stage did not need is there for later ones; what it overspent is missing. A stage without a budget pays
nothing in, takes nothing out, and is not limited.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import perf_counter

from hasten.anatomy import parts
from hasten.settings import Slo
from hasten.trace import Trace

#: Why something was left out, as it is shown.
NO_BUDGET = "no budget left"

#: Seconds by which a stage may be late that was stopped at its budget: timers count whole milliseconds, and ring when
#: the loop has time for them. What is later was held up by something else.
SLACK = 0.005

#: Counts ``amount`` of a metric with labels: (name, labels, amount).
Count = Callable[[str, tuple[str, ...], float], None]


class Budgets:
    """The budgets of ``settings``, at least one. ``clock``: that of a trace's spans, seconds."""

    def __init__(self, settings: Slo, clock: Callable[[], float] = perf_counter) -> None:
        self.seconds: dict[str, float] = {stage: budget / 1e3 for stage, budget in settings.budget_ms.items()}
        self._clock = clock

    def left(self, trace: Trace, stage: str, since: float) -> float:
        """Return the seconds that a request has left for ``stage``, in which it is ``since``.

        Zero or less: none. Infinite for a stage without a budget.
        """
        own = self.seconds.get(stage)
        if own is None:
            return inf
        left = own - (self._clock() - since)
        paid = [stage]
        for other, start, end in trace.spans:
            budget = self.seconds.get(other)
            if budget is not None:
                left -= end - start
                if other not in paid:
                    paid.append(other)
                    left += budget
        return left

    def judges(self, stage: str, cache: str) -> bool:
        """Whether the time that requests with this ``cache`` outcome spent in ``stage`` is held against its budget.

        A coalesced request waits in the cache for another one's engine: that says nothing of the cache.
        """
        return stage in self.seconds and (stage != "cache" or cache != "coalesced")

    def overspent(self, trace: Trace, stage: str) -> bool:
        """Whether a finished request took longer in ``stage`` than its budget.

        A stage that gave something up for want of budget has :data:`SLACK`.
        """
        took, budget = parts(trace).get(stage, 0.0), self.seconds[stage]
        return took > budget and (_why(stage) not in trace.reasons or took > budget + SLACK)

    def __repr__(self) -> str:
        return f"<Budgets {self.seconds}>"


def budgets_of(settings: Slo) -> Budgets | None:
    """Return the budgets, ``None`` if there are none."""
    return Budgets(settings) if settings.budget_ms else None


def skipped(trace: Trace, stage: str, count: Count) -> None:
    """Note that something of ``stage`` was left out, or given up, because nothing was left; counted once a request."""
    why = _why(stage)
    if why not in trace.reasons:
        trace.reasons.append(why)
        count("hasten_budget_skipped_total", (stage,), 1)


def _why(stage: str) -> str:
    return f"{stage}: {NO_BUDGET}"
