"""Learning a correction of the score: bounded whatever comes, right in the end, kept, shared, watched."""

from __future__ import annotations

import math
import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.route.keeping import Kept
from hasten.route.learning import A, B, Learner, Learnt


def clock() -> float:
    return 1234.5


def learner(share: float = 1.0) -> Learner:
    return Learner(share, clock)


def shifted(p: float, a: float, b: float) -> float:
    return 1 / (1 + math.exp(-(a * math.log(p / (1 - p)) + b)))


def teach(made: Learner, a: float, b: float, examples: int, seed: int = 5) -> None:
    """Teach with judgements whose odds are those of the score, corrected by ``a`` and ``b``."""
    source = random.Random(seed)
    for _ in range(examples):
        p = source.betavariate(1.5, 1.5)
        made.saw(p, float(source.random() < shifted(p, a, b)))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=300), st.floats(0, 1))
def test_bounds_hold_whatever_comes(examples: list[tuple[float, float]], share: float) -> None:
    made = learner(share)
    for p, y in examples:
        made.saw(p, y)
        learnt = made.learnt()
        learnt.check()
        assert A[0] <= learnt.a <= A[1]
        assert B[0] <= learnt.b <= B[1]
    kept = msgspec.json.encode(made.learnt())
    assert msgspec.json.decode(kept, type=Learnt) == made.learnt()
    assert len(kept) < 40_000
    scores = [made.corrected(p / 50) for p in range(51)]
    assert scores == sorted(scores)
    assert all(0.0 <= score <= 1.0 for score in scores)


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_one_sided_judges_reach_the_bounds_and_no_further(y: float) -> None:
    made = learner()
    for i in range(3000):
        made.saw((i % 99 + 1) / 100, y)
    assert made.learnt().b == (2.0 if y else -2.0)


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (1.0, 1.0), (1.5, -0.7), (0.6, 0.3)])
def test_it_converges_to_a_known_shift(a: float, b: float) -> None:
    made = learner()
    teach(made, a, b, 4000)
    assert made.learnt().a == pytest.approx(a, abs=0.25)
    assert made.learnt().b == pytest.approx(b, abs=0.25)
    assert made.active
    shown = made.view()
    assert shown["examples"] == 4000
    assert shown["at"] == 1234.5
    if (a, b) != (1.0, 0.0):
        assert shown["log_loss"]["corrected"] < shown["log_loss"]["frozen"]
        assert made.corrected(0.4) == pytest.approx(shifted(0.4, a, b), abs=0.06)


def test_the_share_is_how_much_is_applied() -> None:
    half, none = learner(0.5), learner(0.0)
    for made in (half, none):
        teach(made, 1.0, 1.5, 2000)
    learnt = half.learnt()
    assert half.corrected(0.4) == pytest.approx(shifted(0.4, (1 + learnt.a) / 2, learnt.b / 2))
    assert none.corrected(0.4) == 0.4
    assert not none.active


def test_it_turns_itself_off_when_what_was_true_is_not() -> None:
    made = learner()
    teach(made, 1.0, 2.0, 1500)
    assert made.active
    teach(made, 1.0, 0.0, 200, seed=6)
    assert not made.active
    assert made.corrected(0.3) == 0.3
    teach(made, 1.0, 2.0, 500)
    assert not made.active  # it stays off
    assert made.view()["turned_off"]
    made.reset()
    assert made.active
    assert made.learnt() == Learnt(at=1234.5)


def test_noise_does_not_turn_it_off() -> None:
    off = 0
    for seed in range(20):
        made = learner()
        teach(made, 1.0, 0.0, 600, seed)
        off += not made.active
    assert off == 0


# -- the file


def kept(folder: Path) -> Kept:
    return Kept(learner(), folder / "learnt.json")


def test_it_is_kept(tmp_path: Path) -> None:
    first = kept(tmp_path)
    for _ in range(20):
        first.saw(0.4, 1.0)
    assert kept(tmp_path).learner.learnt() == first.learner.learnt()
    first.reset()
    assert kept(tmp_path).learner.learnt().examples == 0


def test_two_at_one_file_lose_nothing(tmp_path: Path) -> None:
    both = [kept(tmp_path), kept(tmp_path)]
    alone = learner()
    for i in range(50):
        both[i % 2].saw(0.3, float(i % 3 == 0))
        alone.saw(0.3, float(i % 3 == 0))
    both[0].load()
    assert both[0].learner.learnt() == both[1].learner.learnt() == alone.learnt()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"a": 7}',
        b'{"b": null}',
        b'{"aa": 1.0}',
        b'{"ab": 100}',
        b'{"more": 1}',
        b"[1]",
    ],
)
def test_a_corrupt_file_is_set_aside(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "learnt.json").write_bytes(damage)
    made = kept(tmp_path)
    assert "is corrupt" in caplog.text
    assert made.learner.learnt() == Learnt()
    assert (tmp_path / "learnt.json.corrupt").read_bytes() == damage
    made.saw(0.4, 1.0)
    assert kept(tmp_path).learner.learnt().examples == 1


def test_a_file_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Kept(learner(), tmp_path / "gone" / "learnt.json")
    made.saw(0.4, 1.0)
    made.saw(0.4, 1.0)
    assert made.learner.learnt().examples == 2
    assert "cannot be written" in caplog.text
