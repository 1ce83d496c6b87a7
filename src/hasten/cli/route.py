"""``hasten route``: say which tier a prompt would get, and why."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from hasten import config
from hasten.cache import control as controls
from hasten.cache.make import EMBEDDER, load_embedder, needs_embedder
from hasten.cache.semantic.policy import Embed
from hasten.cache.stage import unwanted
from hasten.engines import weights
from hasten.errors import HastenError
from hasten.fields import ChatFields
from hasten.route.complexity import Complexity
from hasten.route.conversation import talk_of
from hasten.route.named import NamedStage, Vector
from hasten.route.needs import demands, needs_of, required
from hasten.route.stage import RouteStage
from hasten.settings import Model, Settings
from hasten.trace import Trace
from hasten.types import Reply, Request

SHOWN = 8  # features
_ENGINE = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}

#: Without a configuration: two tiers, half of the requests each.
PLAIN: dict[str, Any] = {
    "engines": {"e": _ENGINE},
    "models": {
        "small": {"engines": ["e"]},
        "large": {"engines": ["e"]},
        "auto": {"tiers": ["small", "large"], "route": {"holdback": 0}},
    },
}


class Explained(msgspec.Struct):
    """What becomes of a prompt. ``tier``: who is asked; ``reason``: as ``x-hasten-route`` says it.

    ``named``: the named route, and how it was found or why none was looked for; ``cache``: what is looked up first.
    The rest is of a name with tiers. ``frozen_score``: without what was learnt; ``held_share``: of the strongest tier;
    ``going_by``: where that comes from; ``features``: what moved the score, with its signed contributions;
    ``cascade``: who is asked where the tier's answer falls short.
    """

    model: str
    tier: str = ""
    reason: str = ""
    named: str = ""
    cache: str = ""
    score: float | None = None
    frozen_score: float = 0.0
    threshold: float = 0.0
    held_share: float = 0.0
    going_by: str = ""
    features: list[tuple[str, float]] = []
    cascade: str = ""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("route", help="say which tier a prompt would get, and why")
    parser.add_argument("prompt", help="the prompt; - reads it from standard input")
    parser.add_argument("--config", metavar="FILE", help="default: two tiers, half of the requests each")
    parser.add_argument("--model", metavar="NAME", help="default: the first name that has tiers")
    parser.add_argument("--tenant", metavar="NAME", default="", help="who asks; default: nobody's key")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the decision; problems are raised as :class:`~hasten.errors.HastenError`."""
    settings = config.load(args.config) if args.config else config.build(PLAIN, environ={})
    given = sys.stdin.read() if args.prompt == "-" else args.prompt
    prompt = given.encode("utf-8", "replace").decode()  # bytes that are no UTF-8 come in as surrogates
    found = explain(settings, prompt, args.model, args.tenant)
    if args.json:
        print(msgspec.json.encode(found).decode())
    else:
        show(found, bool(args.config))
    return 0


def explain(settings: Settings, prompt: str, model: str | None = None, tenant: str = "") -> Explained:
    """Return what a gateway with ``settings`` that has just started would do, were all its engines well."""
    found = Explained(_asked(settings, model))
    if not prompt.strip():
        raise HastenError("the prompt is empty")
    if tenant and tenant not in settings.tenants:
        there = ", ".join(settings.tenants) or "none"
        raise HastenError(f"there is no tenant {tenant!r}; there are: {there}")
    body = {"model": found.model, "messages": [{"role": "user", "content": prompt}]}
    request = Request("chat", msgspec.convert(body, ChatFields), msgspec.json.encode(body), Trace())
    request.trace.tenant = tenant
    if settings.routes:
        found.named = lead(settings, request)
    found.cache = _cache(settings, request)
    _decide(found, settings, request, prompt)
    return found


def _asked(settings: Settings, model: str | None) -> str:
    """Return the name that is asked for. Without named routes it needs tiers, else there is nothing to tell."""
    routed = [name for name, given in settings.models.items() if given.tiers]
    names = list(settings.models) if settings.routes else routed
    if not names:
        raise HastenError("no model of this configuration has tiers to choose from")
    if model is not None and model not in names:
        if settings.routes:
            raise HastenError(f"there is no model {model!r}; there are: {', '.join(names)}")
        raise HastenError(f"{model!r} has no tiers to choose from; these have: {', '.join(routed)}")
    return model or (routed or names)[0]


def lead(settings: Settings, request: Request) -> str:
    """Have the named routes lead ``request``, the examples too if the embedder is on this machine; return how."""
    told = _play(settings, request, None)
    if told == "failed" and needs_embedder(settings) and (path := weights.resolve(EMBEDDER)) is not None:
        told = _play(settings, request, load_embedder(path))
    if request.trace.named:
        return f"{request.trace.named}, by {told}"
    return "none by a pattern; examples need the extra semantic and its model" if told == "failed" else "none"


def _play(settings: Settings, request: Request, model: Embed | None) -> str:
    """Return what the stage counts: how it found the route that leads ``request``, or why it found none."""
    told: list[str] = []
    texts = [text for route in settings.routes.values() for text in route.examples]
    # One by one, as the stage does.
    known = {text: model([text])[0] for text in texts} if model is not None else None

    async def embed(texts: Sequence[str]) -> Sequence[Vector]:
        assert model is not None
        return model(texts)

    async def answer(request: Request) -> Reply:
        return Reply()

    async def play() -> None:
        stage = NamedStage(
            settings,
            embed if model is not None else None,
            lambda name, labels, amount: told.append(labels[-1]),
            known,
        )
        await stage(request, answer)

    asyncio.run(play())
    return "; ".join(told)


def _cache(settings: Settings, request: Request) -> str:
    given, control = settings.cache, controls.read(request.headers)
    why = unwanted(request, control, given)
    if why is not None:
        return f"passed by: {'the named route says so' if control.bypass else why}"
    steps = {"exact key": given.exact, "call in flight": given.coalesce}
    steps["other wording"] = (
        given.semantic is not False and not control.exact_only and needs_embedder(settings)
    )
    if control.refresh:
        return "not looked up, the named route says so; the answer is kept"
    return ", ".join([step for step, on in steps.items() if on]) or "off"


def _decide(found: Explained, settings: Settings, request: Request, prompt: str) -> None:
    """Tell who is asked."""
    stage = RouteStage(settings, Complexity(), lambda name: True, lambda name, labels, amount: None)
    tiers = stage.routed.get(request.model)
    found.tier, found.reason = request.model, request.trace.way
    if tiers is None:
        return
    needs = needs_of(request, demands(request, required(settings)))
    router, keeper = stage.router(tiers.name), tiers.keepers[-1]
    found.threshold = min(1.0, max(0.0, keeper.threshold))
    found.held_share = keeper.share
    decision = stage.decide(tiers, request, talk_of(request), needs)
    request.trace.route = decision.reason
    found.tier, found.reason = decision.tier.name, request.trace.way
    found.score, found.frozen_score = request.trace.complexity, router.score(prompt)
    found.features = router.explain(prompt)[:SHOWN]
    found.going_by = _going_by(settings.models[tiers.name])
    judged = stage.cascade(tiers, decision, request, needs)
    if judged is not None:
        found.cascade = judged[1][0]


def _going_by(model: Model) -> str:
    hold = model.route.hold
    if hold.strong_share is None and hold.quality is None:
        return "until cost and time of the tiers are known"
    return "going by the router's validation set"


def show(found: Explained, configured: bool) -> None:
    """Print a decision for people."""
    print(f"{found.model} -> {found.tier}" + (f" ({found.reason})" if found.reason else ""))
    if found.named:
        print(f"  named      {found.named}")
    if configured:
        print(f"  cache      {found.cache}")
    if found.score is not None:
        show_score(found)
    if found.cascade:
        print(f"  cascade    {found.tier}'s answer is judged; where it falls short, {found.cascade} answers")
    if not configured:
        print("  no --config: as if there were two tiers, small and large, half of the requests each")
    if found.features:
        print("  what moved the score, as contributions to it:")
    for feature, amount in found.features:
        print(f"    {amount:+7.3f}  {feature}")


def show_score(found: Explained) -> None:
    """Print how hard the prompt is, and what that is compared with."""
    learnt = "" if found.score == found.frozen_score else f", {found.frozen_score:.3f} before what was learnt"
    print(f"  score      {found.score:.3f}  how likely the weakest tier falls short, 0 to 1{learnt}")
    print(
        f"  threshold  {found.threshold:.3f}  above it the strongest tier; "
        f"{100 * found.held_share:.0f}% of requests get it, {found.going_by}"
    )
