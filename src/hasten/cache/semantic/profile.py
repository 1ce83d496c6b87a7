"""What the guards know of a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from hasten.cache.semantic.amounts import Amount, amounts
from hasten.cache.semantic.asking import asks
from hasten.cache.semantic.forms import SAME_WORD
from hasten.cache.semantic.kinds import things
from hasten.cache.semantic.opposites import PHRASE_HEADS
from hasten.cache.semantic.words import fold_numbers, listed

_MARKS = str.maketrans(
    dict.fromkeys("‘’‛ʼ´′", "'")
    | dict.fromkeys("“”„‟″«»", '"')
    | dict.fromkeys("‐‑‒–—−", "-")
    | {"½": " half"}
)
_TOKEN = re.compile(
    r"[$£€]?\d+(?:[.,:/]\d+)*(?:%|[^\W\d_]\w*)?|"  # numbers, with units or as codes
    r"[wW]/o\b|[^\W\d_](?:[\w'+#&]|[.-](?=\w))*|[,.?!:;]"
)
_COUNTED = re.compile(r"(\d+(?:\.\d+)?[a-z]{0,2}|[a-z]+)-([a-z][a-z-]*)")
_SPAN = re.compile(r"\"([^\"]+)\"|`([^`]+)`|(?<![\w])'(?=\S)((?:[^']|(?<=\w)'(?=\w))*)(?<=\S)'(?!\w)")
_CASED = {"US": "US", "May": "May", "Polish": "Polish", "Turkey": "Turkey", "SAT": "SAT"}
_BEFORE_MAY = listed("in on by until since of from till last next this early late mid during end")


_NEGATIONS = listed("not never no without none nobody nothing neither nor w/o")
_STEM = 5  # letters
_SMALL = listed(
    """
    the a of to in on for is are do does did i my me you your it its and or with at by from what how can be was
    were will would should could that this there if when have has had not so as get got , . ? ! : ;
    """
)


@dataclass(slots=True)
class Profile:
    """A text as the guards see it."""

    text: str  # lower case
    raw: list[str]  # tokens as typed, punctuation among them
    tokens: list[str]  # lower case, contractions spelt out, numbers in digits
    words: frozenset[str]
    marks: frozenset[str]  # words, and phrases as "turn_off"
    stems: frozenset[str]  # the first letters of the words that carry content
    asks: str  # the kind of question
    names: dict[str, tuple[str, str]]  # lower case -> the words before and after
    initials: str  # of the words, in a row: "pto" is in that of "paid time off"
    negations: int
    amounts: list[Amount]
    things: dict[str, set[str]]  # kind -> what is named of that kind
    codes: list[str]  # "ps5", "e11000"
    ways: list[tuple[str, frozenset[str], frozenset[str]]]  # "to" or a comparison, from what, to what
    spans: list[str]  # quoted


def profile(text: str) -> Profile:
    """Read a text once, for all guards."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text.translate(_MARKS))
    raw = _TOKEN.findall(plain)
    lower = plain.lower()
    tokens = fold_numbers(_lowered(raw))
    spelt = not (lower == plain or plain.isupper())
    words = frozenset(tokens)
    return Profile(
        text=lower,
        raw=raw,
        tokens=tokens,
        words=words,
        marks=words if words.isdisjoint(PHRASE_HEADS) else words | _phrases(tokens),
        stems=frozenset([word[:_STEM] for word in words - _SMALL]),
        asks=asks(tokens),
        names=_names(raw) if spelt else {},
        initials="".join([token[0] for token in tokens]),
        negations=_negations(tokens, words),
        amounts=amounts(tokens),
        things=things(tokens),
        ways=_ways(tokens) if not words.isdisjoint(_WAYS) else [],
        codes=[token for token in tokens if token[0].isalpha() and any(map(str.isdigit, token))],
        spans=[span for found in _SPAN.findall(lower) if (span := "".join(found).strip())],
    )


def _lowered(raw: Sequence[str]) -> list[str]:
    tokens: list[str] = []
    for at, token in enumerate(raw):
        small = token.lower()
        if small in SAME_WORD:
            tokens.extend(SAME_WORD[small].split(" "))
            continue
        if small.endswith("'s"):
            small = small[:-2]
        if "-" in small and not small.startswith("non-"):
            tokens.extend(small.split("-") if small[0].isdigit() or small[-1].isalpha() else (small,))
        elif token in _CASED and (at or token == "US"):
            tokens.append(token)
        elif small == "may" and (
            (at and (tokens[-1] in _BEFORE_MAY or tokens[-1][0].isdigit()))
            or (raw[at + 1 : at + 2] and raw[at + 1][0].isdigit())
        ):
            tokens.append("May")
        elif small == "us" and at and tokens[-1] == "the":
            tokens.append("US")
        else:
            tokens.append(small)
    return tokens


def _phrases(tokens: Sequence[str]) -> frozenset[str]:
    return frozenset(f"{t}_{tokens[i + 1]}" for i, t in enumerate(tokens[:-1]) if t in PHRASE_HEADS)


def _negations(tokens: Sequence[str], words: frozenset[str]) -> int:
    """Count the negations; "or not", "yes or no" and "no. 5" are none."""
    count = 0
    if not words.isdisjoint(_NEGATIONS):
        for at, token in enumerate(tokens):
            if (
                token in _NEGATIONS
                and not (at and tokens[at - 1] == "or")
                and tokens[at + 1 : at + 2] != ["."]
            ):
                count += 1
    return count


def _names(raw: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the words whose capitals say that they are names."""
    names: dict[str, tuple[str, str]] = {}
    initial = True
    before = ""
    for at, token in enumerate(raw):
        if token in ".?!:":
            initial = True
            before = token
            continue
        lower = token.lower()
        if (
            lower != token
            and token[0].isalpha()
            and (not initial or token[1:] != lower[1:])
            and lower not in _PRONOUN
        ):
            after = raw[at + 1].lower() if at + 1 < len(raw) else ""
            names[lower.removesuffix("'s")] = (before, "" if after in ".?!" else after)
        initial = False
        before = lower
    return names


def _ways(tokens: Sequence[str]) -> list[tuple[str, frozenset[str], frozenset[str]]]:
    """Return what stands before and after each "to", "into" and "than"; "to X from Y" counts as "from Y to X"."""
    ways = []
    for at, token in enumerate(tokens):
        if token not in _WAYS or not at:
            continue
        left, right = _content(tokens[max(0, at - 4) : at][::-1]), _content(tokens[at + 1 : at + 5])
        if token == "from":
            if "to" not in tokens and "into" not in tokens:
                continue
            left, right = right, left
        if left and right:
            ways.append((tokens[at - 1] if token == "than" else "to", left, right))
    return ways


def _content(tokens: Sequence[str]) -> frozenset[str]:
    """Return the content words up to the next preposition or stop."""
    found: list[str] = []
    for token in tokens:
        if token in _BOUNDS:
            if found:
                break
            continue
        if token not in _SMALL:
            found.append(token[:_STEM])
    return frozenset(found)


_WAYS = frozenset(("to", "into", "than", "from"))
_BOUNDS = listed("to into than from in on at for with by and or , . ? ! : ; if when via")
_PRONOUN = frozenset(("i", "i'm", "i've", "i'd", "i'll"))
