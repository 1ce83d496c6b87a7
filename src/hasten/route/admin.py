"""What may be asked of routing over HTTP: clients judge answers; those who run the gateway look, and reset learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from hasten.bodies import read
from hasten.errors import Forbidden, InvalidField, NotFound
from hasten.route.stage import RouteStage
from hasten.route.tiers import Tiers

Totals = Callable[[], dict[str, dict[str, Any]]]


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``/v1/feedback``: ``id`` from the header ``x-request-id``, and one of ``score`` and ``label``.

    There is no comment: nobody would read it, and it would be kept.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    score: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    label: Literal["good", "bad"] | None = None


class Reset(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``/admin/route/reset``: whose learning begins anew; all without ``model``."""

    model: str | None = None


class Admin:
    """Routing's pages, from decoded bodies to plain values. ``totals`` returns what all workers have counted."""

    def __init__(self, stage: RouteStage, totals: Totals) -> None:
        self._stage = stage
        self._totals = totals

    def view(self, tenant: str | None) -> dict[str, Any]:
        """Return the routed names: what is held, what came of it, what it is worth and what was learnt."""
        book = self._stage.book
        book.listen()
        totals = self._totals()
        models = {}
        for name, tiers in self._stage.routed.items():
            kept = book.learners.get(name)
            models[name] = {
                **_held(tiers),
                **totals.get(name, {"requests": {}, "measured": {}, "effect": {}, "feedback": {}}),
                "learning": None if kept is None else kept.learner.view(),
            }
            models[name]["realised_share"] = realised(models[name]["requests"], tiers.tiers[-1].name)
        return {"models": models}

    async def feedback(self, body: bytes, tenant: str) -> dict[str, Any]:
        """Take in a judgement of an answer to ``tenant``. Raises :class:`InvalidField`, ``UnknownRequest``."""
        asked = read(body, Feedback)
        score = asked.score
        if (score is None) == (asked.label is None):
            raise InvalidField('expected one of "score" (0 to 1) and "label" ("good" or "bad")', "score")
        if score is None:
            score = float(asked.label == "good")
        return self._stage.book.feedback(tenant, asked.id, score)

    async def reset(self, body: bytes, tenant: str | None) -> dict[str, Any]:
        """Forget what was learnt, in all workers. Raises :class:`Forbidden`, :class:`NotFound`."""
        if tenant is not None:
            raise Forbidden("only an admin may reset what all tenants' judgements have taught")
        asked = read(body, Reset)
        learners = self._stage.book.learners
        if asked.model is not None and asked.model not in learners:
            raise NotFound(
                f"nothing is learnt for {asked.model[:100]!r}; it is for: {', '.join(learners) or 'none'}"
            )
        names = list(learners) if asked.model is None else [asked.model]
        for name in names:
            learners[name].reset()
        return {"reset": names}


def realised(requests: dict[str, dict[str, float]], strongest: str) -> float | None:
    """Return the share of requests that the strongest tier was chosen for, whatever the reason."""
    total = sum(sum(reasons.values()) for reasons in requests.values())
    return sum(requests.get(strongest, {}).values()) / total if total else None


def _held(tiers: Tiers) -> dict[str, Any]:
    """Return what holds now, of the worker that answers."""
    hold = {
        field.name: value
        for field in msgspec.structs.fields(tiers.routing.hold)
        if (value := getattr(tiers.routing.hold, field.name)) is not None
    }
    keeper = tiers.keepers[-1]
    return {
        "tiers": [tier.name for tier in tiers.tiers],
        "hold": hold,
        "share": tiers.dial.level,
        "holdback": tiers.dial.holdback,
        "threshold": min(1.0, max(0.0, keeper.threshold)),
        "held_share": keeper.share,
    }
