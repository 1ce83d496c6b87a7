"""Guards fire on what surely asks for another answer, and leave true rewordings alone."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.cache.semantic.guards import LONGEST, conflict

CONFLICTS = [
    ("number", "Can I stay 5 nights?", "Can I stay 50 nights?"),
    ("number", "Can I stay five nights?", "Can I stay 6 nights?"),
    ("number", "Is the fee 10%?", "Is the fee 15 percent?"),
    ("number", "Where is order 771204?", "Where is order 771240?"),
    ("number", "Does it run on Windows 10?", "Does it run on Windows 11?"),
    ("number", "How do I install PHP 8.1?", "How do I install PHP 8.2?"),
    ("number", "Can I pay within 3 days?", "Can I pay within 3 weeks?"),
    ("number", "Wake me at 6 am", "Wake me at 6 pm"),
    ("number", "Is the 8:10 bus late?", "Is the 8:40 bus late?"),
    ("number", "Who won the cup in 1998?", "Who won the cup in 2002?"),
    ("number", "Is £40k a good salary?", "Is £60,000 a good salary?"),
    ("number", "How much sugar is in one biscuit?", "How much sugar is in two biscuits?"),
    ("code", "What does error E1201 mean?", "What does error E1207 mean?"),
    ("code", "Will it play on a ps4?", "Will it play on a PS5?"),
    ("weekday", "Is the pool open on Monday?", "Is the pool open on Tuesday?"),
    ("month", "How warm is it in May?", "How warm is it in June?"),
    ("month", "how warm is it in jan", "How warm is it in Feb?"),
    ("opposite", "Is it closed on weekdays?", "Is it closed on weekends?"),
    ("season", "Should I prune it in spring?", "Should I prune it in winter?"),
    ("opposite", "How do I turn on roaming?", "How do I turn off roaming?"),
    ("opposite", "How do I enable cookies?", "How do I disable cookies?"),
    ("opposite", "Is the ticket refundable?", "Is the ticket non-refundable?"),
    (
        "opposite",
        "Which is the cheapest plan with minimum data?",
        "Which is the cheapest plan with maximum data?",
    ),
    ("opposite", "How do I stop the engine?", "How do I start the engine?"),
    ("opposite", "Should I eat before the test?", "Should I eat after the test?"),
    ("opposite", "Can I sell my ticket?", "Can I buy my ticket?"),
    ("negation", "Which flats include heating?", "Which flats don't include heating?"),
    ("negation", "What can be frozen?", "What can't be frozen?"),
    ("negation", "Is it served without nuts?", "Is it served nuts?"),
    ("direction", "How do I get from Dover to Calais?", "How do I get from Calais to Dover?"),
    ("direction", "How do I convert a PNG file to SVG?", "How do I convert an SVG file to PNG?"),
    ("direction", "Is gold heavier than lead?", "Is lead heavier than gold?"),
    ("order", "Did Ann call Ben?", "Did Ben call Ann?"),
    ("country", "What is the capital of Austria?", "What is the capital of Australia?"),
    ("country", "do i need a visa for japan", "Do I need a visa for China?"),
    ("city", "opening times york branch", "What are the opening times of the Leeds branch?"),
    ("entity", "What time does the Elmstead branch open?", "What time does the Harrowby branch open?"),
    ("entity", "Who is Marta Okoye?", "Who is Tomas Okoye?"),
    ("program", "How do I sort rows in Excel?", "How do I sort rows in Google Sheets?"),
    ("pet", "Can my dog eat grapes?", "Can my rabbit eat grapes?"),
    ("quote", "Translate 'good luck' into Danish", "Translate 'well done' into Danish"),
    ("question", "How long is the tour?", "How much is the tour?"),
    ("question", "When was the bridge built?", "Who built the bridge?"),
    ("question", "Why is the tank leaking?", "Where is the tank leaking?"),
    ("question", "Can I return shoes?", "How do I return shoes?"),
]

NO_CONFLICTS = [
    ("Can I stay four hours?", "Is a 4-hour stay possible, can I?"),
    ("Is a 15% tip fine?", "Is it fine to tip fifteen percent?"),
    ("How do I turn on 2FA?", "How can I enable two-factor authentication?"),
    ("Are you open 24/7?", "Do you stay open around the clock?"),
    ("Who was the first king?", "Who was the 1st king?"),
    ("Is it $5?", "Does it cost 5 dollars?"),
    ("Is £40k good?", "Is 40,000 pounds a good wage?"),
    ("Can I return it within a week?", "Can I return it within 7 days?"),
    ("Can I return it after 14 days?", "Can I send it back after two weeks?"),
    ("Is it open at 17:00?", "Is it open at 5 pm?"),
    ("How heavy is a 2 kg bag?", "What does a 2 kilo bag weigh?"),
    ("Is 500 GB enough?", "Will 500 gigabytes do?"),
    ("Why won't it start?", "Why doesn't it start?"),
    ("Can I not pay by card?", "Can't I pay by card?"),
    ("What's the PTO policy?", "What is the paid time off policy?"),
    ("Who is the CEO of Acme?", "Who is Acme's chief executive officer?"),
    ("What's the difference between jam and jelly?", "How do jelly and jam differ?"),
    ("Is jam or jelly sweeter?", "Is jelly or jam sweeter?"),
    ("What time does it open?", "When does it open?"),
    ("How come it's so loud?", "Why is it so loud?"),
    ("How much is the ticket?", "What price is the ticket?"),
    ("How many hours is the tour?", "How long is the tour?"),
    ("Is there a way to mute it?", "How do I mute it?"),
    ("Is parking free in the UK?", "Is parking free in Britain?"),
    ("How do I sort an array in JS?", "How can I sort a JavaScript array?"),
    ("Is a one-bed flat fine?", "Is a flat with a single bedroom fine?"),
    ("I bought one pen, can I return it?", "I bought a pen, can I return it?"),
    ("Is it open on Sat?", "Is it open on Saturday?"),
    ("How do I log in?", "How do I log in?"),
    ("Should I go or not?", "Should I go?"),
    ("", "How do I log in?"),
]


@pytest.mark.parametrize(("kind", "a", "b"), CONFLICTS)
def test_conflict(kind: str, a: str, b: str) -> None:
    for reason in (conflict(a, b), conflict(b, a)):
        assert reason is not None
        assert reason.split(":")[0] == kind


@pytest.mark.parametrize(("a", "b"), NO_CONFLICTS)
def test_no_conflict(a: str, b: str) -> None:
    assert conflict(a, b) is None
    assert conflict(b, a) is None


def test_the_reason_names_both_sides() -> None:
    assert conflict("Can I stay 5 nights?", "Can I stay 50 nights?") == "number: 5 / 50"
    assert conflict("How long is it?", "How much time is it?") is None
    assert conflict("When is it?", "Why is it?") == "question: when / why"


def test_long_texts_have_none() -> None:
    assert conflict("Is it 5? " * LONGEST, "Is it 6?") is None


ALL = [text for _, a, b in CONFLICTS for text in (a, b)] + [text for pair in NO_CONFLICTS for text in pair]


@given(st.sampled_from(ALL), st.sampled_from(ALL))
@settings(max_examples=1500, deadline=None)
def test_symmetry(a: str, b: str) -> None:
    assert (conflict(a, b) is None) == (conflict(b, a) is None)
    assert conflict(a, a) is None


@given(
    st.lists(st.sampled_from(sorted({w for text in ALL for w in text.split()})), max_size=12).map(" ".join),
    st.data(),
)
@settings(max_examples=1000, deadline=None)
def test_symmetry_for_any_words(a: str, data: st.DataObject) -> None:
    b = (
        " ".join(data.draw(st.permutations(a.split())))
        if data.draw(st.booleans())
        else data.draw(st.sampled_from(ALL))
    )
    assert (conflict(a, b) is None) == (conflict(b, a) is None)


@given(st.text(max_size=80), st.text(max_size=80))
@settings(max_examples=400, deadline=None)
def test_any_text(a: str, b: str) -> None:
    assert (conflict(a, b) is None) == (conflict(b, a) is None)


@pytest.mark.parametrize(
    "part", ["a ", "5 ", "'a", '"', "May ", "turn on ", "from a to b ", "one ", "1,", "-", "no "]
)
def test_no_text_takes_long(part: str) -> None:
    text = part * (LONGEST // len(part))
    assert timeit.timeit(lambda: conflict(text, f"{text[:-5]} x 7"), number=1) < 1.0
