"""What requests cost, who spent it, and what caching and routing saved.

::

    spent    = (input - cached) x price.input + cached x price.cached_input + output x price.output,
               of the model that answered, and of answers that were paid for and not served
    baseline = the same tokens at the model asked for; for a name with tiers, at its strongest
    saved    = baseline - spent

Answers from the cache cost nothing: what they would have cost at the model whose answer they are, the cache saved; the
rest of their baseline, routing did. Where a price is unknown nothing is said to be saved. A saving may be a loss, such
as a weak answer that had to be raised: losses are counted for themselves, so both only grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

from hasten.measure.alike import Alike
from hasten.measure.ledger import OTHER, VALUES
from hasten.measure.registry import Family, Key, Registry
from hasten.settings import Model, Price
from hasten.trace import Trace

_OF = ("model", "tenant")
_BY = ("tenant", "by")
FAMILIES = (
    Family(
        "hasten_cost_total", "counter", "What tokens cost, in the prices' currency, by who took them.", _OF
    ),
    Family(
        "hasten_cost_baseline_total", "counter", "What they would have cost at the models asked for.", _OF
    ),
    Family("hasten_cost_saved_total", "counter", "What the cache and routing saved.", _BY),
    Family("hasten_cost_lost_total", "counter", "What the cache and routing cost in vain.", _BY),
    Family("hasten_cost_requests_total", "counter", "Requests that used tokens, by whose answer it is.", _OF),
    Family("hasten_cost_unpriced_total", "counter", "Requests with a price that is not known.", _OF),
    Family("hasten_tokens_total", "counter", "Tokens that engines took.", (*_OF, "gen_ai_token_type")),
    Family("hasten_tokens_estimated_total", "counter", "Those of them that no engine counted.", _OF),
)
_NAMES = frozenset(family.name for family in FAMILIES)
RENEWAL = "renewal"  # as Trace.cache: an answer that was asked for anew, and that no client waits for


def cost_of(price: Price, given: int, cached: int, said: int) -> float:
    """Return what tokens cost; ``cached``: as many of ``given`` the engine took from its cache."""
    cost = given * price.input + said * price.output
    if cached and price.cached_input is not None:
        cost += cached * (price.cached_input - price.input)
    return cost / 1e6


class _Row:
    """The counters of a model and a tenant that most requests need."""

    __slots__ = ("baseline", "cached", "input", "output", "requests", "spent")

    def __init__(self, registry: Registry, model: str, tenant: str) -> None:
        self.requests, self.spent, self.baseline = (
            registry.value(f"hasten_cost_{name}total", model, tenant)
            for name in ("requests_", "", "baseline_")
        )
        self.input, self.output, self.cached = (
            registry.value("hasten_tokens_total", model, tenant, kind)
            for kind in ("input", "output", "cached")
        )


#: How many requests, and the tokens that they used: in, of them from the engine's cache, out; of both those estimated.
_Used = tuple[int, int, int, int, int]


def _used(trace: Trace, hit: bool) -> _Used | None:
    """Return what a request used; ``None`` if that was nothing. A ``hit`` took none of the engine's cache."""
    given, said, kept = trace.input_tokens, trace.output_tokens, trace.cached_tokens
    if given is None and said is None:
        return None
    given, said = given or 0, said or 0
    kept = min(kept, given) if kept and not hit else 0
    return 1, given, kept, said, given + said if trace.estimated else 0


def _tell(trace: Trace, cost: float | None) -> None:
    """Note what a request cost, and tell who waits for it; once."""
    if cost is not None:
        trace.cost = cost
    if trace.on_cost is not None:
        if cost is not None:
            trace.on_cost(cost)
        trace.on_cost = None


class Cost:
    """Works out what a request cost, once, and counts it in the ``registry`` that all workers share."""

    def __init__(self, registry: Registry) -> None:
        self._of = cache(registry.value)  # a look into the registry takes twice as long
        self._row = cache(partial(_Row, registry))
        self._tenants: set[str] = set()
        self._prices: dict[str, Price] = {}
        self._strongest: dict[str, str] = {}

    def configure(self, models: Mapping[str, Model]) -> None:
        """Go by the prices of ``models`` from now on."""
        self._prices = {name: model.price for name, model in models.items() if model.price is not None}
        self._strongest = {name: model.tiers[-1] for name, model in models.items() if model.tiers}

    def take(self, requests: Alike) -> None:
        """Count finished requests, and note on each what it cost."""
        if not requests.engine:
            return
        hit, price = requests.engine == "cache", self._prices.get(requests.served_model)
        found = []
        for trace in requests.traces:
            if trace.discarded:  # answers of other models
                self.record(trace)
            elif (used := _used(trace, hit)) is not None:
                found.append(used)
                if hit:
                    _tell(trace, 0.0)
                elif price is not None:
                    _tell(trace, cost_of(price, *used[1:4]))
        if found:  # a cost is linear in the tokens, so their sums are enough
            count, given, kept, said, estimated = map(sum, zip(*found, strict=True))
            used = (count, given, kept, said, estimated)
            self._count(requests.model, requests.served_model, requests.tenant, used, hit=hit)

    def record(self, trace: Trace) -> None:
        """Count one finished request, also one that no client waits for, and note on it what it cost."""
        hit = trace.engine == "cache"
        used = _used(trace, hit)
        if trace.engine and (used is not None or trace.discarded):
            names = (trace.model, trace.served_model, trace.tenant)
            renewal = trace.cache == RENEWAL
            cost = self._count(
                *names, used or (1, 0, 0, 0, 0), hit=hit, renewal=renewal, discarded=trace.discarded
            )
            _tell(trace, cost)

    def _count(
        self,
        asked: str,
        model: str,
        tenant: str,
        used: _Used,
        *,
        hit: bool,
        renewal: bool = False,
        discarded: Sequence[tuple[str, int, int]] = (),
    ) -> float | None:
        """Count requests for the name ``asked`` that ``model`` answered; return what they cost, if that is known."""
        if tenant not in self._tenants:
            tenant = self._tenant(tenant)
        row = self._row(model, tenant)
        requests, given, kept, said, estimated = used
        spent, unknown = 0.0, None
        if not hit:
            cost = self._paid(row, model, given, kept, said)
            spent, unknown = (0.0, model) if cost is None else (cost, None)
            for other, *more in discarded:
                cost = self._paid(self._row(other, tenant), other, more[0], 0, more[1])
                spent, unknown = (spent, other) if cost is None else (spent + cost, unknown)
            if estimated:
                self._of("hasten_tokens_estimated_total", model, tenant).add(estimated)
        if renewal:
            self._saved(tenant, "cache", -spent)
            return spent if unknown is None else None
        row.requests.add(requests)
        own, asked = self._prices.get(model), self._strongest.get(asked, asked)
        price = own if asked == model else self._prices.get(asked)
        if own is None or price is None or unknown is not None:
            row.baseline.add(spent)
            unpriced = unknown or (model if own is None else asked)
            self._of("hasten_cost_unpriced_total", unpriced, tenant).add(requests)
            return spent if unknown is None else None
        worth = spent
        if hit:
            worth = cost_of(own, given, kept, said)
            self._saved(tenant, "cache", worth)
        if price is own and not discarded:
            row.baseline.add(worth)
            return spent
        baseline = cost_of(price, given, kept, said)
        row.baseline.add(baseline)
        self._saved(tenant, "routing", baseline - worth)
        return spent

    def _paid(self, row: _Row, model: str, given: int, kept: int, said: int) -> float | None:
        """Count what an engine took: tokens in, of them cached, out; return their cost, ``None`` if it is not known."""
        row.input.add(given)
        row.output.add(said)
        if kept:
            row.cached.add(kept)
        price = self._prices.get(model)
        if price is None:
            return None
        cost = cost_of(price, given, kept, said)
        row.spent.add(cost)
        return cost

    def _saved(self, tenant: str, by: str, amount: float) -> None:
        if amount:
            name = "hasten_cost_saved_total" if amount > 0 else "hasten_cost_lost_total"
            self._of(name, tenant, by).add(abs(amount))

    def _tenant(self, name: str) -> str:
        if len(self._tenants) >= VALUES:
            return OTHER
        self._tenants.add(name)
        return name


# -- views


def anonymous(series: Mapping[Key, list[float]]) -> dict[Key, list[float]]:
    """Return ``series`` with all tenants' costs in one."""
    made: dict[Key, list[float]] = {}
    for (name, labels), values in series.items():
        if name in _NAMES:
            at = 0 if name in _BY_TENANT else 1
            labels = (*labels[:at], "", *labels[at + 1 :])
            if (name, labels) in made:
                values = [made[name, labels][0] + values[0]]
        made[name, labels] = values
    return made


#: What :func:`view` needs of the registry.
PREFIXES = ("hasten_cost", "hasten_tokens")
_BY_TENANT = ("hasten_cost_saved_total", "hasten_cost_lost_total")
_ROW = {"requests": 0, "input": 0, "output": 0, "cached": 0, "spent": 0.0, "baseline": 0.0}
_COLUMNS = {
    "hasten_cost_requests_total": "requests",
    "hasten_cost_total": "spent",
    "hasten_cost_baseline_total": "baseline",
}


def view(series: Mapping[Key, list[float]], tenant: str | None) -> dict[str, Any]:
    """Return what ``/admin/cost`` shows of all workers' counts: all, or what is ``tenant``'s."""
    models: dict[str, dict[str, float]] = {}
    tenants: dict[str, dict[str, float]] = {}
    unpriced: dict[str, int] = {}
    saved = {"cache": 0.0, "routing": 0.0}
    estimated = 0
    for (name, labels), (value, *_) in series.items():
        if name in _BY_TENANT and tenant in (None, labels[0]):
            saved[labels[1]] += value if name == "hasten_cost_saved_total" else -value
        if name not in _NAMES or name in _BY_TENANT or tenant not in (None, labels[1]):
            continue
        if name == "hasten_cost_unpriced_total":
            unpriced[labels[0]] = unpriced.get(labels[0], 0) + int(value)
        elif name == "hasten_tokens_estimated_total":
            estimated += int(value)
        else:
            column = _COLUMNS.get(name) or labels[2]
            for rows, row in ((models, labels[0]), (tenants, labels[1])):
                found = rows.setdefault(row, dict(_ROW))
                found[column] += value if column in ("spent", "baseline") else int(value)
    spent, baseline = (sum(row[column] for row in models.values()) for column in ("spent", "baseline"))
    return {
        "currency": "",
        "spent": spent,
        "baseline": baseline,
        "saved": {**saved, "total": baseline - spent},
        "models": models,
        "tenants": tenants,
        "unpriced": unpriced,
        "estimated_tokens": estimated,
    }
