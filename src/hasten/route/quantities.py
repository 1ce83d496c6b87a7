"""What a question gives and asks for, in numbers, and whether an answer's calculations use it as it was meant.

"12 fewer" is taken away, "3 times" multiplies, "30% less" needs two steps. A quantity that is used against its words,
or not at all, is the commonest trace of a misread question. English words only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hasten.route.arithmetic import NUMBER_WORDS, Step

Kind = str  # "minus", "plus", "times", "part", "percent", "plain"

_WORD = re.compile(r"\d+/\d+|\d+(?:\.\d+)?%?|\.\d+%?|[a-z]+(?:'[a-z]+)?|[,.?!;:]")
_AFTER_TEXT: dict[Kind, str] = {
    "minus": "fewer less younger shorter slower cheaper lighter smaller lower off discount",
    "plus": "more older longer taller faster heavier extra additional larger higher bigger",
    "times": "times each apiece",
}
_BEFORE_TEXT: dict[Kind, str] = {
    "minus": "lost lose loses gave gives give ate eats eat spent spends spend used uses use took takes broke dropped "
    "removed subtract minus without except died left sold donated threw",
    "plus": "plus added adds add another additional extra found gained received bought",
    "times": "each every per by",
}
_TIMES_TEXT = "twice double doubled triple tripled thrice dozen dozens"
_PART_TEXT = "half third thirds quarter quarters fourth fifth sixth eighth tenth"
_CHANGE_TEXT = (
    "less fewer more off discount increase increased increases decrease decreased reduced cheaper raise raised rise "
    "grew tip tax interest profit markup higher lower faster slower older younger improved"
)
_AFTER = {word: kind for kind, text in _AFTER_TEXT.items() for word in text.split()}
_BEFORE = {word: kind for kind, text in _BEFORE_TEXT.items() for word in text.split()}
_TIMES_WORDS = frozenset(_TIMES_TEXT.split())
_PART_WORDS = frozenset(_PART_TEXT.split())
_CHANGE = frozenset(_CHANGE_TEXT.split())
_WEAK_WORDS = frozenset(("one", "once", "second", "zero"))  # say little: "one of them"

EXPECTED: dict[Kind, str] = {"minus": "-", "plus": "+", "times": "*", "part": "/*", "percent": "*/"}
OPPOSITE: dict[Kind, str] = {"minus": "+", "plus": "-", "times": "/", "part": "", "percent": ""}


class Quantity(NamedTuple):
    """A number in a question. ``forms``: what it may look like in a calculation. ``change``: "30% more", "20% off"."""

    value: float
    kind: Kind
    forms: tuple[float, ...]
    digits: bool
    change: bool = False


def quantities(question: str) -> list[Quantity]:
    """Return the quantities of a question (a :func:`hasten.route.arithmetic.plain` text), in order."""
    words = _WORD.findall(question.lower().replace("-", " "))
    found: list[Quantity] = []
    for i, word in enumerate(words):
        if word[0].isdigit() or (word[0] == "." and len(word) > 1):
            found.append(_digits(words, i))
        elif word in NUMBER_WORDS and word not in _WEAK_WORDS:
            found.append(_word(words, i))
    return found


def _digits(words: list[str], i: int) -> Quantity:
    word = words[i]
    following = words[i + 1 : i + 4]
    if "/" in word:
        over, under = (float(n[:15]) for n in word.split("/"))
        value = over / under if under else over
        return Quantity(value, "part", (value, over, under, 1.0 - value, 1.0 + value), True)
    if word.endswith("%") or following[:1] in (["percent"], ["percentage"]):
        p = float(word.rstrip("%")[:15])
        change = bool(_CHANGE.intersection(following)) or "by" in words[max(0, i - 2) : i]
        forms = (p, p / 100.0, 1.0 - p / 100.0, 1.0 + p / 100.0, 100.0 - p, 100.0 + p)
        return Quantity(p, "percent", forms, True, change)
    value = float(word[:15])
    return Quantity(value, _kind(words, i), (value,), True)


def _word(words: list[str], i: int) -> Quantity:
    word = words[i]
    forms = NUMBER_WORDS[word]
    if word in _TIMES_WORDS:
        return Quantity(forms[0], "times", forms, False)
    if word in _PART_WORDS:
        return Quantity(forms[0], "part", forms, False)
    if words[i + 1 : i + 2] and words[i + 1] in _PART_WORDS:  # two thirds
        under = NUMBER_WORDS[words[i + 1]][0]
        share = forms[0] / under
        return Quantity(share, "part", (share, forms[0], 1.0 - share), False)
    return Quantity(forms[0], _kind(words, i), forms, False)


def _kind(words: list[str], i: int) -> Kind:
    """Return what the words around a number say is to be done with it."""
    for word in words[i + 1 : i + 4]:
        if word in ",.?!;:":
            break
        if word in _AFTER:
            return _AFTER[word]
    for word in reversed(words[max(0, i - 2) : i]):
        if word in ",.?!;:":
            break
        if word in _BEFORE:
            return _BEFORE[word]
    return "plain"


class Use(NamedTuple):
    """How an answer uses the quantities of its question; counts."""

    given: int = 0
    unused: int = 0  # in no calculation
    unsaid: int = 0  # nowhere in the answer
    unsaid_digits: int = 0
    as_meant: int = 0
    not_as_meant: int = 0
    opposite: int = 0
    half_done: int = 0  # the share of a change was worked out and not applied
    minus_wrong: int = 0
    plus_wrong: int = 0
    times_wrong: int = 0


def use(given: list[Quantity], steps: list[Step], said: set[float]) -> Use:
    """Compare quantities with the calculations and with all numbers ``said`` in the answer."""
    around: dict[float, set[str]] = {}
    for step in steps:
        for j, operand in enumerate(step.operands):
            signs = around.setdefault(round(operand, 6), set())
            signs.update(step.operators[max(0, j - 1) : j + 1])
    counts = dict.fromkeys(Use._fields, 0)
    counts["given"] = len(given)
    for quantity in given:
        forms = [round(form, 6) for form in quantity.forms]
        signs = set().union(*(around.get(form, ()) for form in forms))
        if not signs:
            counts["unused"] += 1
            if not said.intersection(forms):
                counts["unsaid"] += 1
                counts["unsaid_digits"] += quantity.digits
            continue
        wanted = EXPECTED.get(quantity.kind)
        if wanted is None:
            continue
        if signs.intersection(wanted):
            counts["as_meant"] += 1
        else:
            counts["not_as_meant"] += 1
            counts["opposite"] += bool(signs.intersection(OPPOSITE[quantity.kind]))
            name = f"{quantity.kind}_wrong"
            if name in counts:
                counts[name] += 1
        if quantity.change:
            counts["half_done"] += _half_done(quantity, steps)
    return Use(**counts)


def _half_done(quantity: Quantity, steps: list[Step]) -> bool:
    """Whether "30% less" ended as 30% of it: neither applied at once (times 0.7) nor taken away later."""
    share = quantity.value / 100.0
    whole = {round(f, 6) for f in (1.0 - share, 1.0 + share, 100.0 - quantity.value, 100.0 + quantity.value)}
    part = {round(share, 6), round(quantity.value, 6)}
    made: set[float] = set()
    for step in steps:
        operands = {round(o, 6) for o in step.operands}
        if operands & whole:
            return False
        if made & operands and set(step.operators) & {"+", "-"}:
            return False
        if operands & part:
            if set(step.operators) & {"+", "-"} and len(operands) > 2:
                return False
            made.add(round(step.right, 6))
    return bool(made)
