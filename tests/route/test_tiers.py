"""The decision: constraints first, then the conversation, the difficulty, health and time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hasten.dials import Side
from hasten.errors import InvalidField, NoTier
from hasten.route.needs import Needs
from hasten.route.tiers import Asked, Mean, Tier, Tiers
from hasten.settings import Hold, Model, Routing

FREE = Needs(100)


class Health:
    """Which models are up."""

    def __init__(self) -> None:
        self.down: set[str] = set()

    def of(self, name: str) -> bool:
        return name not in self.down


def make(*models: Model, hold: Hold | None = None, health: Health | None = None) -> Tiers:
    """Return tiers t0, t1 ... for the models."""
    state = health or Health()
    tiers = [
        Tier(f"t{i}", model, model.context, lambda name=f"t{i}": state.of(name))  # type: ignore[misc]
        for i, model in enumerate(models)
    ]
    return Tiers("auto", tiers, Routing(hold=hold or Hold(strong_share=0.5)))


def two(**keys: object) -> Tiers:
    return make(Model(), Model(), **keys)  # type: ignore[arg-type]


def test_easy_and_hard() -> None:
    tiers = two()
    assert tiers.decide(Asked(0.05, FREE))[1:] == (0, "easy")
    assert tiers.decide(Asked(0.95, FREE))[1:] == (1, "hard")


def test_three_tiers_share_the_rest_evenly() -> None:
    tiers = make(Model(), Model(), Model(), hold=Hold(strong_share=0.2))
    assert [round(keeper.share, 6) for keeper in tiers.keepers] == [0.6, 0.2]
    counts = [0, 0, 0]
    for i in range(5000):
        score = i * 0.618 % 1
        counts[tiers.decide(Asked(score, FREE)).level] += 1
        tiers.saw(score)
    assert [round(c / 5000, 2) for c in counts] == pytest.approx([0.4, 0.4, 0.2], abs=0.02)
    assert tiers.decide(Asked(0.5, FREE)).reason == "medium"


def test_who_was_not_judged_gets_the_strongest_unless_more_is_known() -> None:
    tiers = make(Model(), Model(), Model(tools=False))
    assert tiers.decide(Asked(None, FREE))[1:] == (2, "budget")
    assert tiers.decide(Asked(None, FREE, was=0))[1:] == (2, "budget")
    assert tiers.decide(Asked(None, FREE, was=0, goes_on=True))[1:] == (0, "conversation")
    assert tiers.decide(Asked(None, FREE, side="holdback"))[1:] == (2, "holdback")
    assert tiers.decide(Asked(None, FREE, wish="t1"))[1:] == (1, "asked")
    assert tiers.decide(Asked(None, Needs(100, tools=True)))[1:] == (1, "needs tools")


def test_what_a_reload_goes_on_with() -> None:
    old, same, other = two(), two(), two()
    other.routing = replace(other.routing, router="another")
    held = two(hold=Hold(strong_share=0.2))
    old.keepers[0].debt = 5.0
    for tiers in (same, other, held):
        tiers.inherit(old)
        assert tiers.keepers[0].scores is tiers.scores
    assert [tiers.scores is old.scores for tiers in (same, other, held)] == [True, False, True]
    assert [tiers.keepers[0].debt for tiers in (same, other, held)] == [5.0, 5.0, 0.0]


def test_a_wish_wins() -> None:
    tiers = two()
    assert tiers.decide(Asked(0.99, FREE, wish="t0", was=1))[1:] == (0, "asked")
    with pytest.raises(InvalidField, match="x-hasten-route: 't9' is no tier of 'auto': t0, t1"):
        tiers.decide(Asked(0.99, FREE, wish="t9"))
    narrow = make(Model(context=50), Model())
    with pytest.raises(NoTier, match="t0 cannot serve this request: context"):
        narrow.decide(Asked(0.1, FREE, wish="t0"))


@pytest.mark.parametrize("side", ["holdback", "off"])
def test_without_routing_the_strongest_answers(side: Side) -> None:
    assert two().decide(Asked(0.01, FREE, side=side, was=0))[1:] == (1, side)


def test_what_a_tier_lacks() -> None:
    cases = {
        "tools": (Model(tools=False), Needs(10, tools=True)),
        "images": (Model(images=False), Needs(10, images=True)),
        "json mode": (Model(json_mode=False), Needs(10, json_mode=True)),
        "context": (Model(context=50), Needs(51)),
        "tags": (Model(tags=("us",)), Needs(10, tags=frozenset({"eu"}))),
    }
    for lack, (weak, needs) in cases.items():
        tiers = make(weak, Model(tags=("eu", "fast")))
        assert tiers.decide(Asked(0.01, needs))[1:] == (1, f"needs {lack}")
        with pytest.raises(NoTier, match=lack):
            make(weak, weak).decide(Asked(0.01, needs))
    down = make(Model(), Model(tools=False))
    assert down.decide(Asked(0.99, Needs(10, tools=True)))[1:] == (0, "needs tools")


def test_a_conversation_stays_and_goes_up() -> None:
    tiers = two()
    assert tiers.decide(Asked(0.01, FREE, was=1))[1:] == (1, "conversation")
    assert tiers.decide(Asked(0.99, FREE, was=0))[1:] == (1, "harder")
    assert tiers.decide(Asked(0.99, FREE, was=0, goes_on=True))[1:] == (0, "conversation")
    assert tiers.decide(Asked(0.52, FREE, was=0))[1:] == (
        0,
        "conversation",
    )  # hardly harder than the threshold


def test_a_tier_that_is_down() -> None:
    health = Health()
    tiers = two(health=health)
    health.down = {"t0"}
    assert tiers.decide(Asked(0.01, FREE))[1:] == (1, "health")
    health.down = {"t1"}
    assert tiers.decide(Asked(0.99, FREE))[1:] == (0, "health")
    health.down = {"t0", "t1"}
    assert tiers.decide(Asked(0.01, FREE)).level == 0  # somebody has to tell the client


def test_a_deadline() -> None:
    tiers = two()
    for _ in range(50):
        tiers.tiers[0].e2e.saw(0.2)
        tiers.tiers[1].e2e.saw(2.0)
        tiers.tiers[1].ttft.saw(0.5)
    assert tiers.decide(Asked(0.99, FREE, deadline=1.0))[1:] == (0, "deadline")
    assert tiers.decide(Asked(0.99, FREE, deadline=5.0))[1:] == (1, "hard")
    assert tiers.decide(Asked(0.99, FREE, ttft=0.1))[1:] == (0, "deadline")
    assert tiers.decide(Asked(0.99, FREE, deadline=0.01)).level == 1  # none can: then the right one


def test_what_is_held() -> None:
    for hold, seen in (
        (Hold(cost=0.4), "cost"),
        (Hold(e2e_ms=400), "e2e"),
        (Hold(ttft_ms=400), "ttft"),
    ):
        tiers = two(hold=hold)
        assert tiers.keepers[0].share == 0.5  # nothing seen yet
        for _ in range(20):
            getattr(tiers.tiers[0], seen).saw(0.1)
            getattr(tiers.tiers[1], seen).saw(1.1)
        for _ in range(16):
            tiers.saw(0.5)
        assert tiers.keepers[0].share == pytest.approx(0.3)
        for _ in range(2000):  # the strong tier got cheaper than the weak one: it may have all
            getattr(tiers.tiers[1], seen).saw(0.05)
        for _ in range(16):
            tiers.saw(0.5)
        assert tiers.keepers[0].share == 1.0
        for _ in range(2000):  # neither keeps it: the better one then, not the one that is overloaded
            getattr(tiers.tiers[0], seen).saw(3.0)
            getattr(tiers.tiers[1], seen).saw(2.0)
        for _ in range(16):
            tiers.saw(0.5)
        assert tiers.keepers[0].share == 1.0


def test_a_mean_follows() -> None:
    mean = Mean()
    for _ in range(100):
        mean.saw(1.0)
    assert mean.value == pytest.approx(1.0)
    assert mean.high == pytest.approx(1.0, abs=0.3)
    for _ in range(400):
        mean.saw(3.0)
    assert mean.value == pytest.approx(3.0, abs=0.01)


MODELS = st.builds(
    Model,
    context=st.none() | st.integers(50, 400),
    tools=st.booleans(),
    images=st.booleans(),
    json_mode=st.booleans(),
    tags=st.sampled_from([(), ("eu",), ("us",), ("eu", "us")]),
)
NEEDS = st.builds(
    Needs,
    tokens=st.integers(0, 500),
    tools=st.booleans(),
    images=st.booleans(),
    json_mode=st.booleans(),
    tags=st.sampled_from([frozenset(), frozenset({"eu"}), frozenset({"eu", "us"})]),
)
ASKED = st.builds(
    Asked,
    score=st.floats(0, 1),
    needs=NEEDS,
    side=st.sampled_from(["act", "holdback", "off"]),
    was=st.none() | st.integers(0, 3),
    goes_on=st.booleans(),
    wish=st.none() | st.sampled_from(["t0", "t1"]),
    deadline=st.none() | st.floats(0.01, 10),
    ttft=st.none() | st.floats(0.01, 10),
)


@given(
    st.lists(MODELS, min_size=2, max_size=4),
    st.lists(ASKED, max_size=20),
    st.sets(st.sampled_from(["t0", "t1"])),
)
def test_constraints_are_never_violated(models: list[Model], asked: list[Asked], down: set[str]) -> None:
    health = Health()
    health.down = down
    tiers = make(*models, health=health)
    for i, tier in enumerate(tiers.tiers):
        for _ in range(3):
            tier.e2e.saw(float(i + 1))
            tier.ttft.saw(0.1 * (i + 1))
    for each in asked:
        able = [i for i, model in enumerate(models) if each.needs.unmet(model, model.context) is None]
        wished = None if each.wish is None else int(each.wish[1:])
        try:
            decision = tiers.decide(each)
        except NoTier:
            assert not able or (wished is not None and wished not in able)
            continue
        assert decision.level in able
        assert set(tiers.chain(decision.level, each.needs)) == {f"t{i}" for i in able}
        if wished is not None:
            assert decision.level == wished
            continue
        up = [i for i in able if health.of(f"t{i}")]
        if up:
            assert decision.level in up
        in_time = [i for i in up if tiers.tiers[i].in_time(each.deadline, each.ttft)]
        if in_time:
            assert decision.level in in_time
        if each.was is not None and each.was in (in_time or up or able) and decision.reason != "deadline":
            assert decision.level >= each.was
