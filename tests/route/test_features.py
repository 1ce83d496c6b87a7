from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.route.features import FORMS, HEAD, NAMES, TAIL, features, plain

CHOICE = "Which gas do plants take in?\nA. Oxygen\nB. Carbon dioxide\nC. Nitrogen\nD. Helium\nAnswer:"


def value(text: str, name: str) -> float:
    return features(text).dense[NAMES.index(name)]


@given(st.text(alphabet=st.characters(), max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_text_has_all_features(text: str) -> None:
    found = features(text)
    assert len(found.dense) == len(NAMES)
    assert all(abs(v) < 1e6 for v in found.dense)
    assert found.form in FORMS


def test_names_are_distinct() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "WHAT IS THE CAPITAL OF FRANCE?",
        "  what  is the capital of  France ",
        "Please what is the capital of France?",
        "Hello, could you please what is the capital of France? Thanks!",
        "Question: What is the capital of France?\nAnswer:",
        "what is the capital of france...",
        "Hi! What is the capital of France? Thank you so much.",
    ],
)
def test_courtesy_case_and_spacing_are_taken_off(text: str) -> None:
    assert plain(text) == "what is the capital of france"


def test_only_courtesy_stays() -> None:
    assert all(map(plain, ("Hello", "thanks", "?!")))


def test_what_is_read_is_bounded() -> None:
    text = "start " + "x " * 100_000 + "end"
    assert len(plain(text)) <= HEAD + TAIL + 1
    assert plain(text).startswith("start")
    assert plain(text).endswith("end")


def test_options_are_found_in_lines_and_in_one_line() -> None:
    assert value(CHOICE, "options") == 4
    assert value(CHOICE.replace("\n", " "), "options") == 4
    assert value("Pick one: (a) red (b) blue (c) green", "options") == 3
    assert value("I saw a. Then nothing.", "options") == 0
    assert features(CHOICE).form == "choice"


def test_the_order_of_options_does_not_matter() -> None:
    turned = "Which gas do plants take in?\nA. Helium\nB. Nitrogen\nC. Carbon dioxide\nD. Oxygen\nAnswer:"
    assert features(CHOICE).dense == pytest.approx(features(turned).dense)


def test_a_story_to_calculate_from_is_known() -> None:
    text = "Ann buys 3 pens at $2 each and pays with a $20 bill. How much is left?"
    assert features(text).form == "story"
    assert value(text, "numbers") > 0
    assert features("Why is the sky blue?").form == "open"


def test_pairs_are_of_neighbours_and_numbers_are_alike() -> None:
    assert features("add 17 pears").grams() == {"add", "#2", "pears", "add #2", "#2 pears"}


def test_other_scripts_are_seen() -> None:
    assert value("東京の人口は?", "other scripts") > 0.5
    assert value("What is this?", "other scripts") == 0


def test_a_long_text_takes_no_longer_than_its_bound() -> None:
    long = "The plaintiff was 37 years old, and the parcel cost $12. " * 20_000
    features(long)
    start = process_time()
    for _ in range(20):
        features(long)
    assert (process_time() - start) / 20 < 0.05  # about 0.5 ms
