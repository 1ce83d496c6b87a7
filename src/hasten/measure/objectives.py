"""Which objectives hold for a request, and whether it met them.

A request is held against the limits of its tenant, else of its model, else the general ones, each limit by itself.
``x_p95_ms: 200`` promises that 95% of the requests take at most 200 ms, so a request is good or bad, and 5% may be
bad: that is the budget. ``errors: 0.01`` is a budget itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from msgspec.structs import fields

from hasten.errors import ClientGone, EngineStatus
from hasten.measure.alike import Alike
from hasten.measure.registry import buckets
from hasten.settings import Objectives, Slo
from hasten.trace import Trace

#: All there can be: measure and percentile. Their places are what they are counted by; errors come first.
_LIMITS = (("ttft", 95), ("ttft", 99), ("tpot", 95), ("tpot", 99), ("e2e", 95), ("e2e", 99))
NAMES = ("errors", *(f"{measure}_p{percentile}" for measure, percentile in _LIMITS))
ERRORS = 0

# What a request counts as, by number: one of all requests, a good one; then of each objective whether it was judged,
# and whether it was missed. A verdict has a bit for each: requests with the same one are counted in one go.
ALL, GOOD = 0, 1


def judged(place: int) -> int:
    """Return the number by which requests judged by an objective are counted."""
    return 2 + 2 * place


def missed(place: int) -> int:
    """Return the number by which those that missed it are counted."""
    return 3 + 2 * place


class Limit(NamedTuple):
    """An upper limit of a measure, seconds. ``met``, ``missed``: what a verdict gets by it."""

    measure: str
    seconds: float
    met: int
    missed: int


class Rules:
    """The objectives of one configuration."""

    def __init__(self, settings: Slo) -> None:
        self._settings = settings
        self._limits: dict[tuple[str, str], tuple[Limit, ...]] = {}

    @property
    def scopes(self) -> list[tuple[str, str]]:
        """What budgets are kept of: everything, and the models and tenants with objectives of their own."""
        settings = self._settings
        models, tenants = (
            [("model", name) for name in settings.models],
            [("tenant", name) for name in settings.tenants],
        )
        return [("all", ""), *models, *tenants]

    @property
    def general(self) -> dict[str, float]:
        """The objectives of all requests that are set, by their settings' names."""
        names = (field.encode_name for field in fields(Objectives))
        return {name: value for name in names if (value := getattr(self._settings, name)) is not None}

    def names(self, model: str, tenant: str) -> tuple[str, str]:
        """Return the model and the tenant as far as they have objectives of their own."""
        settings = self._settings
        return model if model in settings.models else "", tenant if tenant in settings.tenants else ""

    def limits(self, model: str, tenant: str) -> tuple[Limit, ...]:
        """Return what a request is held against; takes what :meth:`names` returns."""
        found = self._limits.get((model, tenant))
        if found is None:
            settings = self._settings
            layers = (settings.tenants.get(tenant), settings.models.get(model), settings)
            found = self._limits[model, tenant] = tuple(
                Limit(measure, value / 1e3, 1 << judged(place), 1 << judged(place) | 1 << missed(place))
                for place, (measure, percentile) in enumerate(_LIMITS, 1)
                if (value := _first(layers, f"{measure}_p{percentile}_ms")) is not None
            )
        return found

    def budgets(self, dimension: str, value: str) -> dict[int, float]:
        """Return the objectives of a scope, by place, and the share of requests that may miss each."""
        settings = self._settings
        own = {"model": settings.models, "tenant": settings.tenants}.get(dimension, {}).get(value)
        found = {
            place: (100 - percentile) / 100
            for place, (measure, percentile) in enumerate(_LIMITS, 1)
            if _first((own, settings), f"{measure}_p{percentile}_ms") is not None
        }
        errors = _first((own, settings), "errors")
        return found if errors is None else {ERRORS: errors, **found}

    def __bool__(self) -> bool:
        return any(self.budgets(*scope) for scope in self.scopes)


def _first(layers: tuple[Objectives | None, ...], name: str) -> float | None:
    values = (getattr(layer, name) for layer in layers if layer is not None)
    return next((value for value in values if value is not None), None)


_COUNTED = 1 << ALL
_GOOD = 1 << GOOD
_NO_ERROR = 1 << judged(ERRORS)
_FAILED = _COUNTED | _NO_ERROR | 1 << missed(ERRORS)
_MISSES = sum(1 << missed(place) for place in range(len(NAMES)))


def judge(trace: Trace, limits: tuple[Limit, ...]) -> int:
    """Return what a finished request counts as, by bits; 0: as nothing.

    - It failed if it got a 5xx or 429, or broke in the stream; then its times are not judged.
    - A client's own error (another 4xx) says nothing. That an engine refuses the gateway's key, or has no such
      model (401, 403, 404 of the engine), is not the client's error.
    - A client that left is neither good nor bad, but for what it had already waited for in vain by then.
    - A whole answer has no TTFT and TPOT.
    """
    gone = trace.error == ClientGone.code
    if not gone and (trace.error is not None or trace.status >= 400):
        return _FAILED if failed(trace) else 0
    verdict = 0 if gone else _NO_ERROR
    for measure, limit, met, miss in limits:
        took: float | None
        if measure == "tpot":
            took = trace.tpot
        elif measure == "ttft" and (trace.t_first is not None or not trace.stream):
            took = trace.ttft
        else:
            took = trace.duration
            if gone and took <= limit:
                continue  # what would have become of it, nobody knows
        if took is not None:
            verdict |= miss if took > limit else met
    if verdict & _MISSES:
        return verdict | _COUNTED
    return verdict if gone else verdict | _COUNTED | _GOOD


def verdicts(requests: Alike, limits: tuple[Limit, ...]) -> Mapping[int, int]:
    """Return by what :func:`judge` says of them how many ``requests`` there are."""
    if requests.stream or not requests.well:
        return Counter([judge(trace, limits) for trace in requests.traces])
    # Of whole answers it depends on their duration alone: those up to the next limit are as good as one of just that.
    found: Counter[int] = Counter()
    bounds = sorted([limit.seconds for limit in limits if limit.measure == "e2e"])
    for bucket, count in buckets(requests.e2e, bounds):
        took = bounds[bucket] if bucket < len(bounds) else inf
        verdict = _NO_ERROR | _COUNTED
        for measure, limit, met, miss in limits:
            if measure == "e2e":
                verdict |= miss if took > limit else met
        found[verdict if verdict & _MISSES else verdict | _GOOD] += count
    return found


def failed(trace: Trace) -> bool:
    """Whether a finished request failed, and not by its client's fault."""
    status = trace.status
    if trace.error == ClientGone.code or (trace.error is None and status < 400):
        return False
    if status >= 500 or status == 429:
        return True
    return status < 400 or (trace.error == EngineStatus.code and status in (401, 403, 404))
