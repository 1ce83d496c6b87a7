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

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

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
    """Return what tokens cost; ``cached``: how many of ``given`` the engine took from its cache."""
    cost = given * price.input + said * price.output
    if cached and price.cached_input is not None:
        cost += min(cached, given) * (price.cached_input - price.input)
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

    def record(self, trace: Trace) -> None:
        """Count one finished request, and note on ``trace`` what it cost."""
        given, said = trace.input_tokens, trace.output_tokens
        if not trace.engine or (given is None and said is None and not trace.discarded):
            return  # it used nothing
        model, tenant = trace.served_model, trace.tenant
        if tenant not in self._tenants:
            tenant = self._tenant(tenant)
        row = self._row(model, tenant)
        hit = trace.engine == "cache"
        used = (given or 0, 0 if hit else trace.cached_tokens or 0, said or 0)
        spent, unknown = 0.0, None
        if not hit:
            cost = self._paid(row, model, used)
            spent, unknown = (0.0, model) if cost is None else (cost, None)
            for other, *amounts in trace.discarded:
                cost = self._paid(self._row(other, tenant), other, (amounts[0], 0, amounts[1]))
                spent, unknown = (spent, other) if cost is None else (spent + cost, unknown)
            if trace.estimated:
                self._of("hasten_tokens_estimated_total", model, tenant).add(used[0] + used[2])
        if unknown is None:
            trace.cost = spent
            if trace.on_cost is not None:
                trace.on_cost(spent)
        trace.on_cost = None
        if trace.cache == RENEWAL:
            self._saved(tenant, "cache", -spent)
            return
        row.requests.add()
        own, asked = self._prices.get(model), self._strongest.get(trace.model, trace.model)
        price = own if asked == model else self._prices.get(asked)
        if own is None or price is None or unknown is not None:
            row.baseline.add(spent)
            self._of("hasten_cost_unpriced_total", unknown or (model if own is None else asked), tenant).add()
            return
        if hit:
            worth = cost_of(own, *used)
            self._saved(tenant, "cache", worth)
        else:
            worth = spent
        if price is own and not trace.discarded:
            row.baseline.add(worth)
            return
        baseline = cost_of(price, *used)
        row.baseline.add(baseline)
        self._saved(tenant, "routing", baseline - worth)

    def _paid(self, row: _Row, model: str, used: tuple[int, int, int]) -> float | None:
        """Count what an engine took: tokens in, of them cached, out; return their cost, ``None`` if it is not known."""
        given, kept, said = used
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
