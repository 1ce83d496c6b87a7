"""What an entry's marks do to its limit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.cache.entry import Mark
from hasten.cache.semantic.belief import KEPT, MOST, Belief, learn

CURVES = st.builds(Belief, st.floats(-3, 3), st.floats(0.3, 3))
MARK: st.SearchStrategy[Mark] = st.tuples(st.floats(-12, 12), st.booleans())
MARKS = st.lists(MARK, max_size=KEPT - 1).map(tuple)
SLACK = 1e-3


def test_nothing_seen_moves_nothing() -> None:
    assert Belief(0.0, 1.0).shift(()) == 0.0


@settings(max_examples=300, deadline=None)
@given(CURVES, MARKS)
def test_the_shift_is_bounded_below(belief: Belief, marks: tuple[Mark, ...]) -> None:
    assert belief.shift(marks) >= -MOST / belief.b - 1e-9


@settings(max_examples=600, deadline=None)
@given(CURVES, MARKS, st.floats(-12, 12))
def test_a_wrong_mark_never_loosens(belief: Belief, marks: tuple[Mark, ...], score: float) -> None:
    assert belief.shift((*marks, (score, False))) >= belief.shift(marks) - SLACK


@settings(max_examples=600, deadline=None)
@given(CURVES, MARKS, st.floats(-12, 12))
def test_a_right_mark_never_tightens(belief: Belief, marks: tuple[Mark, ...], score: float) -> None:
    assert belief.shift((*marks, (score, True))) <= belief.shift(marks) + SLACK


def test_the_order_of_marks_does_not_matter_to_the_limit() -> None:
    belief = Belief(1.0, 0.8)
    marks = ((2.0, True), (3.0, False), (1.0, True))
    assert abs(belief.shift(marks) - belief.shift(marks[::-1])) < 1e-6


def test_wrong_marks_at_a_high_score_weigh_most() -> None:
    belief = Belief(0.0, 1.0)
    assert (
        belief.shift(((4.0, False),)) > belief.shift(((0.0, False),)) > belief.shift(((-6.0, False),)) >= 0.0
    )


def test_a_strange_score_raises_nothing() -> None:
    for score in (1e6, -1e6, float("inf"), float("nan")):
        Belief(0.0, 1.0).shift(((score, False), (score, True)))


@settings(max_examples=300, deadline=None)
@given(st.lists(MARK, max_size=3 * KEPT))
def test_marks_are_bounded_and_wrong_ones_go_last(seen: list[Mark]) -> None:
    marks: tuple[Mark, ...] = ()
    for score, right in seen:
        marks = learn(marks, (score, right))
    assert len(marks) == min(len(seen), KEPT)
    wrong = [m for m in seen if not m[1]]
    assert [m for m in marks if not m[1]] == wrong[-KEPT:]
