"""What is a calculation, and whether it is right; how an answer uses what its question gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.route.arithmetic import numbers, plain, steps
from hasten.route.quantities import quantities, use

RIGHT = {
    "plain": "3 * 60 = 180",
    "units": "3 hours * 60 miles/hour = 180 miles",
    "the letter x": "4 x 5 = 20",
    "a calculator": "She pays 3 * 12 = $<<3*12=36>>36 in all",
    "thousands": "10 * 100 = 1,000",
    "rounded": "60 / 7 = 8.57 miles",
    "cut": "2 / 3 = 0.66",
    "to a whole": "41.67 - 0.2 = 41",
    "a chain": "40 / 2 + 5 = 20 + 5 = 25",
    "a run-on chain": "5 * 4 = 20 / 2 = 10",
    "percent of": "20% * 50 = 10",
    "percent as a result": "12 / 20 = 60%",
    "times a hundred": "(12 / 20) x 100 = 60%",
    "LaTeX": r"\frac{1}{4} \times 20 = 5",
    "escaped stars": r"25 \* 3 = 75",
    "parentheses": "(38 - 2) * (1 + 0.5) = 54",
    "a power": "2^3 = 8",
    "negative": "90 - 144 = -54",
    "a hyphen": "a 4-week month has 4 * 7 = 28 days",
    "a remark": "90 - 144 = -54 miles (54 miles west)",
    "money": "5 x $40 = $200",
}
WRONG = {
    "plain": "4 x 5 = 21",
    "units": "3 hours * 60 miles = 190 miles",
    "percent": "20% * 50 = 11",
    "rounded too far": "60 / 7 = 8.77",
    "in a chain": "40 / 2 + 5 = 20 + 5 = 24",
    "money": "2 x $1.50 = $3.50",
    "a fraction": r"\frac{3}{4} \times 20 = 12",
}
NONE = {
    "algebra": "2D + 4D + D = 210",
    "an unknown": "5x = 100",
    "with a letter between": "x + 4x = 100",
    "an assignment": "y = 15",
    "a date": "On 2024-05-06 there were 3 of them.",
    "two sentences": "There were 5. And 6 = 6 is true.",
    "a dozen": "4 dozens + 2 = 50 eggs",
    "nothing": "",
    "not closed": "(3 + 4 = 7",
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_right(text: str) -> None:
    found = steps(plain(text))
    assert found
    assert not [step for step in found if step.wrong]


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_wrong(text: str) -> None:
    assert [step for step in steps(plain(text)) if step.wrong]


@pytest.mark.parametrize("text", NONE.values(), ids=NONE)
def test_no_calculation_is_wrong(text: str) -> None:
    assert not [step for step in steps(plain(text)) if step.wrong]


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.sampled_from("+-*/"))
def test_right_and_wrong_by_hundred(a: int, b: int, sign: str) -> None:
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[sign]
    assert not any(s.wrong for s in steps(plain(f"so {a} {sign} {b} = {value:.9f} apples.")))
    off = value + max(100.0, abs(value) / 10)
    if abs(off / (value or 1)) not in (100.0, 0.01):
        assert all(s.wrong for s in steps(plain(f"so {a} {sign} {b} = {off:.2f} apples.")))


@given(st.text(alphabet="0123456789+-*/=()^%.,x $<>#\\{}frac\nab"))
def test_never_raises(text: str) -> None:
    steps(plain(text))
    numbers(plain(text))
    quantities(plain(text))


def test_any_number_of_signs() -> None:
    assert not any(step.wrong for step in steps(plain("x = " + "-" * 5000 + " 3 + 4 = 7")))
    assert steps(plain("4 - --1 = 3")) == [] or not steps(plain("4 - --1 = 3"))[0].wrong


def test_what_a_question_gives() -> None:
    found = quantities("She has 12 fewer than 3 times as many as Bo, half of 40, and 30% less salt.")
    assert [(q.value, q.kind) for q in found] == [
        (12, "minus"),
        (3, "times"),
        (0.5, "part"),
        (40, "plain"),
        (30, "percent"),
    ]
    assert [q.change for q in found] == [False, False, False, False, True]


def test_against_its_words_and_unused() -> None:
    question = "There are 24 green squares, 12 fewer white ones than green ones, and 7 red ones. How many white ones?"
    asked = quantities(question)
    meant = use(asked, steps("24 - 12 = 12"), {24.0, 12.0})
    against = use(asked, steps("12 + 24 = 36"), {24.0, 12.0, 36.0})
    assert (meant.as_meant, meant.opposite, meant.unused) == (1, 0, 1)
    assert (against.as_meant, against.opposite, against.minus_wrong) == (0, 1, 1)


@pytest.mark.parametrize(
    ("answer", "half"),
    [
        ("30/100 * 30 = 9", 1),
        ("30 * 0.7 = 21", 0),
        ("0.3 * 50 = 15 and 50 - 15 = 35", 0),
    ],
)
def test_a_change_that_is_not_applied(answer: str, half: int) -> None:
    found = quantities("Anne went down 30% less than Mitchel.")
    assert use(found, steps(answer), set()).half_done == half
