"""Finds the calculations in a text and does them again.

Understands what models write: units between the numbers, money, percent, fractions, thousands, LaTeX, chains
(``a = b = c``), run-on chains (``5 * 4 = 20 / 2 = 10``), the ``<<2*3=6>>`` of calculators. What it cannot read, such as
algebra, is no calculation. Bounded: the first :data:`LIMIT` characters.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

LIMIT = 16_000  # characters
DEEP = 20  # parentheses in one another
WORDS_BETWEEN = 5  # a unit's words between a number and the next operator

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_FRACTION = re.compile(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|boxed)\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TOKEN = re.compile(r"\d+(?:\.\d+)?|\.\d+|[A-Za-z]+(?:[-'][A-Za-z]+)*|[-+*/=()%×÷·^−–]|[.,:;?!]|\n|\S")
_SIGNS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "x": "*", "X": "*"}
_NO_SIGNS = str.maketrans("", "", "$€£\\")
_HYPHEN = re.compile(r"(?<=\d)-(?=[A-Za-z])")  # "a 4-week month" takes nothing away
_PLAIN = (
    ("\\times", "*"),
    ("\\cdot", "*"),
    ("\\div", "/"),
    ("\\%", "%"),
    ("\\left", ""),
    ("\\right", ""),
    ("**", ""),
)

_UNREAD = frozenset(("dozen", "dozens", "half", "hundred", "thousand", "million", "squared"))

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?|(?<![\w.])\.\d+")
_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
NUMBER_WORDS: dict[str, tuple[float, ...]] = {
    word: (float(i),) for i, word in enumerate(_COUNTING.split())
} | {
    "thirty": (30.0,),
    "forty": (40.0,),
    "fifty": (50.0,),
    "sixty": (60.0,),
    "hundred": (100.0,),
    "thousand": (1000.0,),
    "dozen": (12.0,),
    "dozens": (12.0,),
    "once": (1.0,),
    "twice": (2.0,),
    "double": (2.0,),
    "doubled": (2.0,),
    "triple": (3.0,),
    "tripled": (3.0,),
    "thrice": (3.0,),
    "half": (0.5, 2.0, 50.0, 1.5),
    "third": (3.0, 1 / 3),
    "thirds": (3.0,),
    "quarter": (4.0, 0.25, 25.0),
    "quarters": (4.0, 0.25),
    "fourth": (4.0, 0.25),
    "fifth": (5.0, 0.2),
    "sixth": (6.0, 1 / 6),
    "eighth": (8.0, 0.125),
    "tenth": (10.0, 0.1),
}


class Step(NamedTuple):
    """One calculation ``left = right``. ``operators`` and ``operands`` are of the left side; ``right`` is as written.

    ``off``: the relative error, 0 where it is right or rounded.
    """

    left: float
    right: float
    operators: str
    operands: tuple[float, ...]
    off: float

    @property
    def wrong(self) -> bool:
        """Whether the two sides differ by more than rounding."""
        return self.off > 0.0


def plain(text: str) -> str:
    """Return ``text`` without notation around its numbers: currency, thousands, LaTeX, calculator marks."""
    text = _CALCULATOR.sub("", text[:LIMIT])
    if "\\" in text:
        text = _TEXT.sub(r" \1 ", _FRACTION.sub(r"(\1)/(\2)", text))
    for mark, sign in _PLAIN:
        text = text.replace(mark, sign)
    return _THOUSANDS.sub("", _HYPHEN.sub(" ", text).translate(_NO_SIGNS))


def numbers(text: str) -> list[float]:
    """Return the numbers written in digits in a :func:`plain` text."""
    return [float(n[:300]) for n in NUMBER.findall(text)]


def steps(text: str) -> list[Step]:
    """Return the calculations in a :func:`plain` text, in order."""
    found: list[Step] = []
    sides: list[list[str]] = [[]]
    words = 0
    tokens = _TOKEN.findall(text)
    for i, token in enumerate(tokens):
        sign = _SIGNS.get(token, token)
        if token in "xX" and not _between_numbers(tokens, i):
            sign = token
        if sign == "=":
            sides.append([])
            words = 0
        elif sign in "+-*/()%^" or _is_number(sign):
            if words and (_is_number(sign) or sign == "(") and _ends_value(sides[-1]):
                found += _chain(sides)  # two values with words between: another thought begins
                sides = [[]]
            sides[-1].append(sign)
            words = 0
        elif sign[0].isalpha() and words < WORDS_BETWEEN:
            words += 1
            if sign in _UNREAD or (len(sign) == 1 and sign not in "aAI"):
                sides[-1].append("?")  # an unknown
        elif sign != ",":
            found += _chain(sides)
            sides, words = [[]], 0
    return found + _chain(sides)


def _between_numbers(tokens: list[str], i: int) -> bool:
    """Whether the letter x stands for "times" here."""
    return i > 0 and i + 1 < len(tokens) and (tokens[i + 1][0].isdigit() or tokens[i + 1] == "(")


def _ends_value(side: list[str]) -> bool:
    return bool(side) and (_is_number(side[-1]) or side[-1] in ")%")


def _is_number(token: str) -> bool:
    return token[0].isdigit() or (token[0] == "." and len(token) > 1)


def _chain(sides: list[list[str]]) -> list[Step]:
    """Return the steps of ``a = b = c``."""
    if len(sides) < 2:
        return []
    found = []
    before = _Side(sides[0], first=True)
    for tokens in sides[1:]:
        after = _Side(tokens)
        if before.value is not None and after.value is not None and before.operators:
            off = _off(before, after)
            found.append(Step(before.value, after.shown, before.operators, before.operands, off))
        before = after
    return found


class _Side:
    """One side of an equation. ``value``: ``None`` if it cannot be read; ``shown``: its first number."""

    __slots__ = ("decimals", "operands", "operators", "percent", "shown", "value")

    def __init__(self, tokens: list[str], first: bool = False) -> None:
        self.value: float | None = None
        self.operators = ""
        self.operands: tuple[float, ...] = ()
        self.percent = "%" in tokens
        self.shown = 0.0
        self.decimals = 0
        tokens = _tidy(tokens, first)
        if not tokens or "?" in tokens:
            return
        parser = _Parser(tokens)
        value = parser.parse()
        if value is None or not math.isfinite(value):
            return
        self.value = value
        self.operators = parser.operators
        self.operands = tuple(parser.operands)
        self.shown = value if not self.operators else parser.operands[0]
        number = next((t for t in tokens if _is_number(t)), "")
        self.decimals = len(number.partition(".")[2])


def _tidy(tokens: list[str], first: bool) -> list[str]:
    """Drop what units leave behind (``miles / hour``): operators and parentheses without numbers."""
    kept: list[str] = []
    for i, token in enumerate(tokens):
        following = tokens[i + 1] if i + 1 < len(tokens) else ""
        if token in "*/^+" and (not following or following in "*/^+)="):
            continue
        if token == "-" and (not following or following in "*/^+)"):
            continue
        if token in "*/^+" and (not kept or kept[-1] in "(*/^+-"):
            continue
        if token == ")" and kept and kept[-1] == "(":
            kept.pop()
            continue
        kept.append(token)
    opened = kept.count("(") - kept.count(")")
    if opened > 0 and first:  # "(we know that 3 + 4": the parenthesis is the sentence's
        while opened and kept and kept[0] == "(":
            kept.pop(0)
            opened -= 1
    while opened < 0 and kept and kept[-1] == ")":
        kept.pop()
        opened += 1
    return kept if opened == 0 else []


class _Parser:
    """Recursive descent over ``+ - * / ^``, parentheses and percent."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self.operators = ""
        self.operands: list[float] = []

    def parse(self) -> float | None:
        """Return the value; ``None`` if it is none."""
        try:
            value = self._sum(0)
        except (ValueError, ZeroDivisionError, OverflowError, IndexError):
            return None
        return value if self._at == len(self._tokens) and isinstance(value, float) else None

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _sum(self, depth: int) -> float:
        value = self._product(depth)
        while (sign := self._peek()) in ("+", "-"):
            self._take(sign)
            other = self._product(depth)
            value = value + other if sign == "+" else value - other
        return value

    def _product(self, depth: int) -> float:
        value = self._power(depth)
        while (sign := self._peek()) in ("*", "/", "("):
            if sign == "(":
                self.operators += "*"
            else:
                self._take(sign)
            other = self._power(depth)
            value = value / other if sign == "/" else value * other
        return value

    def _power(self, depth: int) -> float:
        value = self._atom(depth)
        if self._peek() == "^":
            self._take("^")
            value = math.pow(value, self._atom(depth))
        return value

    def _atom(self, depth: int) -> float:
        sign = 1.0
        while (token := self._tokens[self._at]) == "-":  # a text may have any number of them
            sign = -sign
            self._at += 1
        self._at += 1
        if token == "(":
            if depth > DEEP:
                raise ValueError("too deep")
            value = self._sum(depth + 1)
            if self._tokens[self._at] != ")":
                raise ValueError("not closed")
            self._at += 1
        else:
            value = float(token)
            self.operands.append(value)
        if self._peek() == "%":
            self._at += 1
            value /= 100.0
        return sign * value

    def _take(self, sign: str) -> None:
        self.operators += sign
        self._at += 1


def _off(before: _Side, after: _Side) -> float:
    """Return by how much, relatively, two sides differ beyond rounding."""
    assert before.value is not None
    assert after.value is not None
    left = before.value
    candidates = [after.value, after.shown]  # shown: a run-on chain goes on from the result
    if after.percent or before.percent:
        candidates += [after.value * 100.0, after.value / 100.0]
    best = math.inf
    for right in candidates:
        # Rounding shows in the digits: 8.57 stands for 8.565 to 8.575; cut off, for up to 8.58.
        allowed = 10.0**-after.decimals * (1.0 if after.decimals else 0.5) + 1e-9 * abs(left)
        miss = abs(left - right)
        if miss <= allowed:
            return 0.0
        best = min(best, miss / max(abs(left), abs(right), 1e-9))
    return best
