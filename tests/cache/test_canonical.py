"""Equal canonical forms ask for the same answer: what is unified, what must stay apart, and that nothing breaks it."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.cache.semantic.canonical import LONGEST, canonical, distance, typos
from hasten.cache.semantic.words import fold_numbers, listed, ordered, ordinal, scaled

SAME = [
    ("What's the notice period?", "what is the notice period"),
    ("Whats the notice period", "What is the notice period?"),
    ("I can't sign in. How do I reset it?", "I cannot sign in, how do I reset it?"),
    ("Why won't it start?", "why will not it start"),
    ("WHERE IS MY PARCEL NOW?", "Where is my parcel now?"),
    ("Where  is my\tparcel now ?!", "Where is my parcel now?"),
    ("“Where” is my parcel’s label?", '"Where" is my parcel\'s label?'),
    ("Hi there, how do I top up my meter?", "How do I top up my meter?"),
    ("Good morning! How do I top up my meter? Thanks in advance!", "How do I top up my meter"),
    ("Hello,\n\nHow do I top up my meter?\n\nThank you so much", "How do I top up my meter?"),
    ("um so how do i top up my meter", "How do I top up my meter?"),
    ("How do I um top up my meter?", "How do I top up my meter?"),
    ("Sorry to bother you, but how do I top up my meter, please?", "How do I top up my meter?"),
    ("Quick question: where can I buy stamps?", "Where do I buy stamps?"),
    ("Could you please tell me how to top up my meter?", "How can I top up my meter?"),
    ("I'd like to know how I can top up my meter", "how to top up my meter"),
    ("Do you know where the nearest pool is?", "Where is the nearest pool?"),
    ("What are the steps to bleed a radiator?", "How do I bleed a radiator?"),
    ("What do I need to do to bleed a radiator?", "How does one bleed a radiator?"),
    ("Is it possible to pay by cheque online?", "Can I pay by cheque online?"),
    ("What is the price of a day ticket?", "How much does a day ticket cost?"),
    ("How much is a day ticket?", "What does a day ticket cost?"),
    ("Have you got gift wrap?", "Do you have gift wrap?"),
    ("Who should I contact about a leak?", "Who do I contact about a leak?"),
    ("What's the difference between jam and jelly?", "What is the difference between jelly and jam?"),
    ("In the app, how do I change the theme?", "How do I change the theme in the app?"),
    ("Why don't you ship abroad?", "Why do you not ship abroad?"),
    ("Which colour is best for a theatre?", "Which color is best for a theater?"),
    ("Can I get my travelled miles organised?", "Can I get my traveled miles organized?"),
    ("Is three hundred and fifty enough?", "Is 350 enough?"),
    ("Is two million five hundred thousand enough?", "Is 2,500,000 enough?"),
    ("Is 2.5 million enough?", "Is 2500000 enough?"),
    ("Is a dozen enough?", "Is twelve enough?"),
    ("Who was the twenty-first president?", "Who was the 21st president?"),
    ("Is fifteen percent a fair tip?", "Is 15 % a fair tip?"),
    ("Is £40k enough for a flat?", "Is £40,000 enough for a flat?"),
    ("Is it fifty dollars?", "Is it $50?"),
    ("Is a two-hour wait normal?", "Is a 2 hour wait normal?"),
    ("Do you open at 5 p.m.?", "do you open at 5pm"),
    ("What is the capital of the US?", "what is the capital of the us"),
    ("Do You Accept Visa Cards Here?", "do you accept visa cards here"),
    ("Where is the residents' car park?", "where is the residents car park"),
    ("Does somebody check if it's safe?", "Does someone check whether it is safe?"),
    ("Should I stay or not?", "Should I stay?"),
    ("Please write a haiku about rain", "Write a haiku about rain"),
]

APART = [
    ("How do I lock it?", "How do I not lock it?"),
    ("How do you store my data?", "How do I store my data?"),
    ("Is a little salt fine?", "Is little salt fine?"),
    ("What is the time?", "What is time?"),
    ("What's the best way to descale a kettle?", "How do I descale a kettle?"),
    ("How do I contact US?", "How do I contact us?"),
    ("Can IT help me?", "Can it help me?"),
    ("What did WHO say?", "What did who say?"),
    ("How do I remove Polish stains?", "How do I remove polish stains?"),
    ("Does it contain vitamin K?", "Does it contain vitamin k?"),
    ("How do I clean Windows?", "How do I clean windows?"),
    ("How many MB is 10 Mb?", "How many mb is 10 mb?"),
    ("Is 10Gb fast?", "Is 10GB fast?"),
    ("How do I IM them?", "How do I am them?"),
    ("Use LaTeX gloves?", "Use latex gloves?"),
    ("In JavaScript what is a Map?", "In JavaScript what is a map?"),
    ("Does `Foo` equal `bar`?", "Does `foo` equal `bar`?"),
    ("What does 'May' start with?", "What does 'may' start with?"),
    ("What is x² plus 1?", "What is x2 plus 1?"),
    ("Is 10½ big?", "Is 101/2 big?"),
    ("What is 1.5 plus 1?", "What is 15 plus 1?"),
    ("Is C a language?", "Is C++ a language?"),
    ("Is C++ hard?", "Is C# hard?"),
    ("What is 5 - 3?", "What is 5 + 3?"),
    ("What is -5 in words?", "What is 5 in words?"),
    ("Who created Hello Kitty?", "Who created Kitty?"),
    ("Hello Kitty creator", "Kitty creator"),
    ("Hey Jude writer", "Jude writer"),
    ("How do I reply to thank you?", "How do I reply to?"),
    ("How do you say please in Greek?", "How do you say in Greek?"),
    ("hi there are ants in my kitchen", "are ants in my kitchen"),
    ("So is my brother", "Is my brother"),
    ("What does dozen mean?", "What does 12 mean?"),
    ("How do you spell colour?", "How do you spell color?"),
    ("How do you spell forty?", "How do you spell 40?"),
    ("Who is no one?", "Who is No. 1?"),
    ("Between one hundred and fifty?", "Between 150?"),
    ("Set a twenty second timer", "Set a 22nd timer"),
    ("How many um in a mm?", "How many in a mm?"),
    ("Let's eat, grandma", "Let's eat grandma"),
    ("Is its colour its best point?", "Is it is colour it is best point?"),
    ("What are man-eating plants?", "What are man eating plants?"),
    ("Remind me when my order is ready", "When is my order ready?"),
    ("Can you freeze cream?", "Freeze cream"),
    ("Could I be pregnant?", "Can I be pregnant?"),
    ("In Germany, how do I get a visa for a friend?", "How do I get a visa for a friend in Germany?"),
    ("How do I keep getting logged out?", "How to keep getting logged out?"),
    ("Kommt er morgen um fünf?", "Kommt morgen fünf?"),
    ("What is the price of a programme?", "What is the price of a program?"),
    ("How much will a stamp cost?", "How much does a stamp cost?"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same(a: str, b: str) -> None:
    assert canonical(a) == canonical(b)


@pytest.mark.parametrize(("a", "b"), APART)
def test_apart(a: str, b: str) -> None:
    assert canonical(a) != canonical(b)


@pytest.mark.parametrize("text", [text for pair in SAME + APART for text in pair])
def test_form_of_form(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "?",
        "...",
        "um",
        "thanks",
        "please",
        "hi",
        "'",
        '"',
        "`",
        "$",
        "-",
        "one",
        "a",
        "\n",
        "\x00",
        "½",
        "''",
    ],
)
def test_next_to_nothing(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)
    assert bool(canonical(text)) == bool(text.strip())


def test_several_lines_stay_as_they_are() -> None:
    code = "Fix this:\ndef f(x):\n    return  X"
    assert canonical(code) == code
    assert canonical(code) != canonical("Fix this:\ndef f(x):\n  return  X")


def test_other_languages_stay_as_they_are() -> None:
    assert canonical("  Wie   komme ich um 5 zum Bahnhof? ") == "Wie komme ich um 5 zum Bahnhof"
    assert canonical("東京の天気は？") == "東京の天気は"


def test_long_texts_stay_as_they_are() -> None:
    text = "How do I do it? " * (LONGEST // 8)
    assert canonical(text) == text.strip()


WORDS = st.sampled_from(
    sorted(
        listed(
            """
            Hi hello , . ? ! how do I can you please tell me what is the price of a cost two hundred and dozen million
            five-year-old 5 pm $ £40k % US us IT it Polish May in Windows thanks so um or not the app where can't don't
            what's 's it's whats " ' ` ( ) : - C++ whether if check difference between sorry but quick question
            write say one no second per 1,000 er hey there colour have got who should contact possible to much does cent
            """
        )
    )
)


@given(st.lists(WORDS, max_size=14).map(" ".join))
@settings(max_examples=600, deadline=None)
def test_form_of_form_for_any_words(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@given(st.text(max_size=80))
@settings(max_examples=400, deadline=None)
def test_any_text(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@pytest.mark.parametrize(
    "part",
    ["a ", "how ", ", ", "hi ", "' ", "'a", "1,", "um ", "and ", "-", ".", '"', "not i ", "million "],
)
def test_no_text_takes_long(part: str) -> None:
    text = "how " + part * (LONGEST // len(part) - 4)
    assert timeit.timeit(lambda: canonical(text), number=1) < 0.5


@given(st.integers(min_value=0, max_value=999_999_999))
def test_numbers_of_any_size(value: int) -> None:
    assert fold_numbers(spoken(value).split()) == [str(value)]
    assert canonical(f"Is it about {spoken(value)}?") == f"is it about {value}"
    assert canonical(f"Is it about {value:,}?") == f"is it about {value}"


def spoken(value: int) -> str:
    """Return a number in words, as it is said."""
    ones = ordered(
        """
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
        eighteen nineteen
        """
    )
    tens = ordered("twenty thirty forty fifty sixty seventy eighty ninety")
    for size, name in ((1_000_000, "million"), (1_000, "thousand")):
        if value >= size:
            rest = value % size
            joint = " and " if 0 < rest < 100 else " "
            return f"{spoken(value // size)} {name}{joint + spoken(rest) if rest else ''}"
    if value >= 100:
        return f"{spoken(value // 100)} hundred{f' and {spoken(value % 100)}' if value % 100 else ''}"
    if value >= 20:
        return tens[value // 10 - 2] + (f"-{ones[value % 10]}" if value % 10 else "")
    return ones[value]


def test_number_helpers() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112, 122)] == (
        ordered("1st 2nd 3rd 4th 11th 12th 13th 21st 112th 122nd")
    )
    assert scaled("2.5", 1_000_000) == "2500000"
    assert scaled("2.5", 12) == "30"
    assert scaled("1.2345", 1_000) == "1234.5"


KNOWN = {
    "reset",
    "router",
    "price",
    "prince",
    "account",
    "address",
    "change",
    "their",
    "email",
    "definitely",
    "password",
}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I reset my pasword?", "How do I reset my password?"),
        ("hi, how can i chnage my adress?", "How do I change my address?"),
        ("Is it definately mine?", "Is it definitely mine?"),
    ],
)
def test_typos(a: str, b: str) -> None:
    assert typos(a, b, KNOWN)
    assert typos(b, a, KNOWN)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What is the price?", "What is the prince?"),  # both are words
        ("What is the qwxyz?", "What is the qwxyy?"),  # neither is
        ("Where is unit a1b2c?", "Where is unit a1b2d?"),
        ("Is the acount old?", "Is the account old or new?"),
        ("Is it emial?", "Is it Email?".replace("Email", "mail")),
        ("the same", "the same"),
    ],
)
def test_no_typos(a: str, b: str) -> None:
    assert not typos(a, b, KNOWN)


def test_distance() -> None:
    assert distance("change", "chnage", 3) == 1
    assert distance("price", "prince", 3) == 1
    assert distance("kitten", "sitting", 9) == 3
    assert distance("kitten", "sitting", 2) == 2
    assert distance("a", "abcdef", 3) == 3
