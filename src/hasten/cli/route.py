"""``hasten route``: say which tier a prompt would get, and why."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import msgspec

from hasten import config
from hasten.errors import HastenError
from hasten.fields import ChatFields
from hasten.route.complexity import Complexity
from hasten.route.conversation import talk_of
from hasten.route.needs import needs_of
from hasten.route.stage import RouteStage
from hasten.settings import Model, Settings
from hasten.trace import Trace
from hasten.types import Request

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
    """A decision. ``frozen_score``: without what was learnt; ``held_share``: of the strongest tier;
    ``going_by``: where that comes from.

    ``features``: what moved the score, with its signed contributions.
    """

    model: str
    tier: str
    reason: str
    score: float
    frozen_score: float
    threshold: float
    held_share: float
    going_by: str
    features: list[tuple[str, float]]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("route", help="say which tier a prompt would get, and why")
    parser.add_argument("prompt", help="the prompt; - reads it from standard input")
    parser.add_argument("--config", metavar="FILE", help="default: two tiers, half of the requests each")
    parser.add_argument("--model", metavar="NAME", help="default: the first name that has tiers")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the decision; problems are raised as :class:`~hasten.errors.HastenError`."""
    settings = config.load(args.config) if args.config else config.build(PLAIN, environ={})
    given = sys.stdin.read() if args.prompt == "-" else args.prompt
    prompt = given.encode("utf-8", "replace").decode()  # bytes that are no UTF-8 come in as surrogates
    found = explain(settings, prompt, args.model)
    if args.json:
        print(msgspec.json.encode(found).decode())
    else:
        show(found, bool(args.config))
    return 0


def explain(settings: Settings, prompt: str, model: str | None = None) -> Explained:
    """Return what a gateway with ``settings`` that has just started would decide, were all its engines well."""
    routed = [name for name, given in settings.models.items() if given.tiers]
    if not routed:
        raise HastenError("no model of this configuration has tiers to choose from")
    if not prompt.strip():
        raise HastenError("the prompt is empty")
    name = model or routed[0]
    if name not in routed:
        raise HastenError(f"{name!r} has no tiers to choose from; these have: {', '.join(routed)}")
    stage = RouteStage(settings, Complexity(), lambda name: True, lambda name, labels, amount: None)
    body = {"model": name, "messages": [{"role": "user", "content": prompt}]}
    fields = msgspec.convert(body, ChatFields)
    request = Request("chat", fields, msgspec.json.encode(body), Trace())
    tiers, router = stage.routed[name], stage.router(name)
    keeper = tiers.keepers[-1]
    threshold = min(1.0, max(0.0, keeper.threshold))
    decision = stage.decide(tiers, request, talk_of(request), needs_of(request, frozenset()))
    return Explained(
        name,
        decision.tier.name,
        decision.reason,
        request.trace.complexity or 0.0,
        router.score(prompt),
        threshold,
        keeper.share,
        _going_by(settings.models[name]),
        router.explain(prompt)[:SHOWN],
    )


def _going_by(model: Model) -> str:
    hold = model.route.hold
    if hold.strong_share is None and hold.quality is None:
        return "until cost and time of the tiers are known"
    return "going by the router's validation set"


def show(found: Explained, configured: bool) -> None:
    """Print a decision for people."""
    learnt = "" if found.score == found.frozen_score else f", {found.frozen_score:.3f} before what was learnt"
    print(f"{found.model} -> {found.tier} ({found.reason})")
    print(f"  score      {found.score:.3f}  how likely the weakest tier falls short, 0 to 1{learnt}")
    print(
        f"  threshold  {found.threshold:.3f}  above it the strongest tier; "
        f"{100 * found.held_share:.0f}% of requests get it, {found.going_by}"
    )
    if not configured:
        print("  no --config: as if there were two tiers, small and large, half of the requests each")
    if found.features:
        print("  what moved the score, as contributions to it:")
    for feature, amount in found.features:
        print(f"    {amount:+7.3f}  {feature}")
