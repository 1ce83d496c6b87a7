"""Whether a regular expression may be run on every request: valid, and fast on any text of bounded length.

Python's engine backtracks: ``(a+)+b`` takes 2^n steps on n letters. So a pattern is tried when the settings are read on
texts made to be hard for it: for each of its repeats, what leads up to it, then what may be repeated, again and again,
then what fits nothing. They grow until the length or the time is up. A text g times as long takes at most about t^g
steps, so g is chosen by the time that the last one took::

    g = log(AFFORDED) / log(t)        at most 2
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from math import log
from time import thread_time
from typing import Any

from hasten.settings import PATTERN_CHARS

LIMIT = 0.02  # seconds of processor time on a text of PATTERN_CHARS
STEP = 1e-8  # seconds that the engine takes for a step, about
AFFORDED = 1e7  # steps
_END = "\0\n"  # fits next to nothing
_FEW, _LETTERS, _LEADS = 6, 24, 8  # of what is tried: more would make reading the settings slow
_CATEGORIES = {"DIGIT": "0", "SPACE": " ", "WORD": "a", "NOT_DIGIT": "a", "NOT_SPACE": "a", "NOT_WORD": "-"}

# How ``re`` reads a pattern: (operator, operand) pairs. Not public, and the same since Python 3.11.
_parse: Any = importlib.import_module("re._parser").parse


@lru_cache(1024)  # a reload reads the same ones
def problem_of(pattern: str) -> str | None:
    """Return what is wrong with ``pattern``, or ``None``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # it will mean something else one day
            search = re.compile(pattern, re.IGNORECASE).search
            tree = _parse(pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError, FutureWarning) as exc:
        return f"no valid regular expression: {exc}"
    if any(_is_slow(search, lead, piece) for lead, piece in _hard(tree)):
        return (
            f"too slow on some texts of up to {PATTERN_CHARS} characters:"
            " repeats inside of repeats, or several that fit the same"
        )
    return None


def _is_slow(search: Callable[[str], object], lead: str, piece: str) -> bool:
    size = 8
    while True:
        text = (lead + piece * (size // len(piece) + 1))[: PATTERN_CHARS - len(_END)] + _END
        took = _time(search, text)
        if took > LIMIT:  # a busy machine is slow now and then
            took = min(took, _time(search, text), _time(search, text))
        if took > LIMIT or size >= PATTERN_CHARS:
            return took > LIMIT
        size += 1 + int(size * min(1.0, log(AFFORDED) / log(max(took / STEP, 2.0)) - 1.0))


def _time(search: Callable[[str], object], text: str) -> float:
    since = thread_time()
    search(text)
    return thread_time() - since


def _hard(tree: Any) -> Iterator[tuple[str, str]]:
    """Return (lead, piece): texts that begin with a lead and go on with a piece, over and over."""
    repeats = list(dict.fromkeys(_repeats(tree, "")))
    letters = list(dict.fromkeys(_letters(tree)))[:_LETTERS]
    pairs = [a + b for a in letters for b in letters if a != b] if len(letters) <= _FEW else []
    leads = list(dict.fromkeys(lead for lead, _ in repeats))[:_LEADS]
    pieces = dict.fromkeys([*(piece for _, piece in repeats if piece), *letters, *pairs])
    for lead in leads:
        for piece in pieces:
            yield lead, piece


def _repeats(tree: Any, lead: str) -> Iterator[tuple[str, str]]:
    """Return for each repeat what leads up to it and what it may repeat."""
    for operator, operand in tree:
        if str(operator).endswith("_REPEAT"):
            inner = operand[2]
            for part in _alternatives(inner):
                yield lead, _sample(part)
        for part in _parts(operator, operand):
            yield from _repeats(part, lead)
        lead += _sample([(operator, operand)])


def _alternatives(tree: Any) -> Iterator[Any]:
    """Return the tree, and the alternatives in it that are all of it."""
    yield tree
    if len(tree) == 1:
        operator, operand = tree[0]
        for part in _parts(operator, operand):
            yield from _alternatives(part)


def _parts(operator: Any, operand: Any) -> Iterable[Any]:
    """Return the trees inside of a node."""
    match str(operator):
        case "BRANCH":
            return list(operand[1])
        case "ATOMIC_GROUP":
            return [operand]
        case "GROUPREF_EXISTS":
            return [part for part in operand[1:] if part is not None]
        case "SUBPATTERN" | "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT" | "ASSERT" | "ASSERT_NOT":
            return [operand[-1]]
    return []


def _letters(tree: Any) -> Iterator[str]:
    """Return characters, at least one that fits each node."""
    for operator, operand in tree:
        if (one := _one(operator, operand)) is not None:
            yield one
        if str(operator) == "IN":
            yield from _letters(operand)
        for part in _parts(operator, operand):
            yield from _letters(part)


def _one(operator: Any, operand: Any) -> str | None:
    """Return a character that fits a node of one character, or ``None``."""
    match str(operator):
        case "LITERAL":
            return chr(operand)
        case "ANY":
            return "a"
        case "NOT_LITERAL":
            return "a" if operand != ord("a") else "b"
        case "RANGE":
            return chr(operand[0])
        case "CATEGORY":
            return _CATEGORIES.get(str(operand).removeprefix("CATEGORY_"), "a")
        case "IN" if str(operand[0][0]) == "NEGATE":
            return next((c for c in "a0 -\0" if not _fits(operand[1:], c)), None)
        case "IN":
            return _one(*operand[0])
    return None


def _fits(items: Any, char: str) -> bool:
    for operator, operand in items:
        if str(operator) == "RANGE":
            if operand[0] <= ord(char) <= operand[1]:
                return True
        elif _one(operator, operand) == char:
            return True
    return False


def _sample(tree: Any) -> str:
    """Return a text that the tree fits, look-arounds and references aside."""
    made = ""
    for operator, operand in tree:
        match str(operator):
            case "BRANCH":
                made += _sample(operand[1][0])
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                made += _sample(operand[2]) * min(max(operand[0], 1), operand[1], 16)
            case "SUBPATTERN" | "ATOMIC_GROUP":
                made += _sample(*_parts(operator, operand))
            case _:
                made += _one(operator, operand) or ""
    return made[:PATTERN_CHARS]
