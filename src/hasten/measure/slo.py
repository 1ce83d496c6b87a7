"""Goodput, error budgets and their alerts, over all workers. Without I/O; the clock is injected.

The burn rate over a window is how many times faster than allowed the budget is spent:

::

    burn = (bad / judged) / budget

An alert fires while the burn rate over a long window and over a short one is above a factor: the long one says that
it matters, the short one that it still goes on (Google's SRE Workbook, "Alerting on SLOs": multiwindow,
multi-burn-rate).
The factors are the workbook's, for its budget of 30 days: 14.4 over an hour is 2% of it, 6 over six hours 5%, 3 over a
day and 1 over three days 10%. Only the last three days are kept, in memory, so the budget shown is that of three days.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

from hasten.budget import Budgets, budgets_of
from hasten.measure.alike import Alike
from hasten.measure.ledger import Ledger, Part
from hasten.measure.objectives import ALL, GOOD, NAMES, Rules, judged, missed, verdicts
from hasten.measure.registry import Key
from hasten.settings import Slo as Settings

WINDOWS = {
    "1m": 60,
    "5m": 300,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "6h": 21_600,
    "1d": 86_400,
    "3d": 259_200,
}
GOODPUT = ("1m", "5m", "1h")
BURN = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_SLICES = {10: (60, 300), 60: (1800, 3600, 7200), 600: (21_600, 86_400, 259_200)}
#: Judged requests in the short window below which nothing fires: one bad one of two is no trend.
ENOUGH = 10

#: Seconds for which an alert goes on after its burn rates have fallen: one on the edge is no stream of messages.
HOLD = 60.0


#: So begins the series of a stage's budget; counted are requests that kept it (0) and that overspent it (1).
_STAGE = ("budget", "stage")


class Alarm(NamedTuple):
    """Fires while the burn rates over ``long`` and ``short`` are above ``factor``."""

    severity: str
    long: str
    short: str
    factor: float


ALARMS = (
    Alarm("page", "1h", "5m", 14.4),
    Alarm("page", "6h", "30m", 6.0),
    Alarm("ticket", "1d", "2h", 3.0),
    Alarm("ticket", "3d", "6h", 1.0),
)
SEVERITIES = ("page", "ticket")


class Change(NamedTuple):
    """An alert that began or ended. ``burn``: the rates by window."""

    firing: bool
    severity: str
    dimension: str
    value: str
    objective: str
    budget: float
    burn: dict[str, float]


class Slo:
    """Holds requests against their objectives. See :class:`~hasten.measure.ledger.Ledger`.

    ``on_overspent``: hears of a stage how many requests took longer than its budget, which may be none.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = monotonic,
        on_overspent: Callable[[str, int], None] = lambda stage, count: None,
    ) -> None:
        self.ledger = Ledger(_SLICES, clock, values=100_000)  # the settings name them, and are bound enough
        self._on_overspent = on_overspent
        self._firing: dict[tuple[str, str, int, str], float] = {}  # and when each was last seen to fire
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Judge by other objectives from now on; what was counted stays."""
        self.rules = Rules(settings)
        self.budgets = budgets_of(settings)
        self._checked = -1  # the version of the ledger
        self._on = bool(self.rules)

    def take(self, requests: Alike) -> None:
        """Judge finished requests."""
        if not requests.call:
            return
        if self._on:
            self.ledger.add(self._judge(requests))
        if self.budgets is not None:
            self.ledger.add(self._stages(self.budgets, requests))

    def _judge(self, requests: Alike) -> Part:
        rules = self.rules
        model, tenant = rules.names(requests.model, requests.tenant)
        limits = rules.limits(model, tenant)
        counts: Counter[int] = Counter()
        for verdict, count in verdicts(requests, limits).items():
            counts.update({at: count for at in range(verdict.bit_length()) if verdict >> at & 1})
        scopes = (("all", ""), ("model", model), ("tenant", tenant))
        return {
            ("slo", *scope): dict(counts) for scope in scopes if counts and (scope[1] or scope[0] == "all")
        }

    def _stages(self, budgets: Budgets, requests: Alike) -> Part:
        """Return how many requests kept and overspent the budgets of which stages."""
        part: Part = {}
        for stage, budget in budgets.seconds.items():
            took = requests.stages.get(stage)
            if took and budgets.judges(stage, requests.cache):
                over = 0 if max(took) <= budget else sum(budgets.overspent(t, stage) for t in requests.traces)
                part[*_STAGE, stage] = {0: len(took) - over, 1: over}
                self._on_overspent(stage, over)
        return part

    def burn(self, scope: tuple[str, str], place: int, budget: float) -> dict[str, float]:
        """Return the burn rates of a scope's objective, of the windows in which something was judged."""
        rates = {}
        for window in BURN:
            counts = self._counts(scope, window)
            if counts.get(judged(place)):
                rates[window] = counts.get(missed(place), 0) / counts[judged(place)] / budget
        return rates

    def check(self) -> list[Change]:
        """Return the alerts that began or ended since the last call."""
        if self._checked == self.ledger.version:
            return []
        self._checked = self.ledger.version
        now = self.ledger.clock()
        before, self._firing = self._firing, {}
        changes = []
        for scope in self.rules.scopes if self._on else []:
            for place, budget in self.rules.budgets(*scope).items():
                rates = self.burn(scope, place, budget)
                for severity in SEVERITIES:
                    alert = (*scope, place, severity)
                    since = before.get(alert)
                    if any(
                        self._fires(alarm, scope, place, rates)
                        for alarm in ALARMS
                        if alarm.severity == severity
                    ):
                        self._firing[alert] = now
                    elif since is not None and now - since < HOLD:
                        self._firing[alert] = since
                    if (alert in self._firing) != (since is not None):
                        fires = since is None
                        changes.append(Change(fires, severity, *scope, NAMES[place], budget, rates))
        return changes

    def _fires(self, alarm: Alarm, scope: tuple[str, str], place: int, rates: dict[str, float]) -> bool:
        enough = self._counts(scope, alarm.short).get(judged(place), 0) >= ENOUGH
        above = all(rates.get(window, 0.0) > alarm.factor for window in (alarm.long, alarm.short))
        return above and enough

    def _counts(self, scope: tuple[str, str], window: str) -> dict[int, int]:
        return self.ledger.counts(("slo", *scope), WINDOWS[window])

    def view(self, tenant: str | None) -> dict[str, Any]:
        """Return what ``/admin/slo`` shows: a row a scope, of a ``tenant`` its own; for all also one a stage."""
        scopes = self.rules.scopes if self._on else []
        shown = [self._row(s) for s in scopes if tenant is None or s == ("tenant", tenant)]
        budgets = self.budgets.seconds if self.budgets is not None and tenant is None else {}
        return {"scopes": shown, "budgets": [self._stage(*given) for given in budgets.items()]}

    def _stage(self, stage: str, budget: float) -> dict[str, Any]:
        windows = {}
        for window in GOODPUT:
            counts = self.ledger.counts((*_STAGE, stage), WINDOWS[window])
            if counts:
                over, total = counts.get(1, 0), sum(counts.values())
                windows[window] = {"requests": total, "overspent": over / total}
        return {"stage": stage, "budget_ms": budget * 1e3, "windows": windows}

    def goodput(self, window: str) -> float | None:
        """Return the share of all requests that met their objectives; ``None`` if none were judged."""
        counts = self._counts(("all", ""), window)
        return round(counts.get(GOOD, 0) / counts[ALL], 4) if self._on and counts.get(ALL) else None

    def _row(self, scope: tuple[str, str]) -> dict[str, Any]:
        goodput = {}
        for window in GOODPUT:
            counts = self._counts(scope, window)
            if counts.get(ALL):
                good = counts.get(GOOD, 0)
                goodput[window] = {"share": good / counts[ALL], "per_second": good / WINDOWS[window]}
        objectives = {}
        for place, budget in self.rules.budgets(*scope).items():
            rates = self.burn(scope, place, budget)
            objectives[NAMES[place]] = {
                "budget": budget,
                "budget_left": 1.0 - rates.get("3d", 0.0),
                "burn": rates,
                "alerts": {severity: (*scope, place, severity) in self._firing for severity in SEVERITIES},
            }
        return {"dimension": scope[0], "value": scope[1], "goodput": goodput, "objectives": objectives}

    def series(self, tenants: bool) -> dict[Key, list[float]]:
        """Return the gauges of ``/metrics``. ``tenants``: whether the tenants' may be seen too."""
        found: dict[Key, list[float]] = {}
        for row in self.view(None)["scopes"]:
            scope = (row["dimension"], row["value"])
            if scope[0] == "tenant" and not tenants:
                continue
            for window, goodput in row["goodput"].items():
                found["hasten_slo_goodput_share", (*scope, window)] = [goodput["share"]]
                found["hasten_slo_goodput_per_second", (*scope, window)] = [goodput["per_second"]]
            for name, state in row["objectives"].items():
                found["hasten_slo_budget_left", (*scope, name)] = [state["budget_left"]]
                for window, rate in state["burn"].items():
                    found["hasten_slo_burn_rate", (*scope, name, window)] = [rate]
                for severity, firing in state["alerts"].items():
                    found["hasten_slo_alert", (*scope, name, severity)] = [float(firing)]
        return found
