"""Words and numbers, as the canonical form and the guards both read them."""

from __future__ import annotations

import re
from collections.abc import Sequence


def listed(text: str) -> frozenset[str]:
    """Return the words of a table written as text."""
    return frozenset(text.split())


def ordered(text: str) -> list[str]:
    """Return the words of a table written as text, in their order."""
    return text.split()


_UNITS = ordered(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
    """
)
_TENS = ordered("twenty thirty forty fifty sixty seventy eighty ninety")
_UNIT_ORDINALS = ordered(
    """
    zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth
    fifteenth sixteenth seventeenth eighteenth nineteenth
    """
)
_TEN_ORDINALS = ordered("twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth")

SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000, "dozen": 12}

VALUES = {word: value for value, word in enumerate(_UNITS)}
VALUES |= {word: 10 * tens for tens, word in enumerate(_TENS, 2)}
VALUES |= {"fourty": 40, "ninty": 90}
_PAIRS = {f"{t}-{u}": 10 * i + j for i, t in enumerate(_TENS, 2) for j, u in enumerate(_UNITS[:10]) if j}
ORDINALS = {word: value for value, word in enumerate(_UNIT_ORDINALS) if value}
ORDINALS |= {word: 10 * tens for tens, word in enumerate(_TEN_ORDINALS, 2)}
# "twenty-second" is left out: it may be a length of time.
_ORDINAL_PAIRS = {
    f"{t}-{u}": 10 * i + j
    for i, t in enumerate(_TENS, 2)
    for j, u in enumerate(_UNIT_ORDINALS[:10])
    if j not in (0, 2)
}
NUMBER_WORDS = frozenset(VALUES) | frozenset(_PAIRS) | frozenset(SCALES)
_STARTS = NUMBER_WORDS | frozenset(ORDINALS) | frozenset(_ORDINAL_PAIRS)
_PLAIN = re.compile(r"\d{1,12}(?:\.\d{1,6})?")
_SOMEBODY = frozenset(("no", "any", "every", "some"))  # "no one" is not "no. 1"


def ordinal(value: int) -> str:
    """Return "1st" for 1, "12th" for 12."""
    if 10 <= value % 100 <= 20:
        return f"{value}th"
    return f"{value}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(value % 10, 'th') }"


def scaled(digits: str, scale: int) -> str:
    """Return decimal ``digits`` times a scale, exactly: 2.5 times a million is "2500000"."""
    whole, _, part = digits.partition(".")
    zeros = len(str(scale)) - 1
    if scale == 12 or len(part) > zeros:
        return f"{int(whole) * scale}" if not part else f"{float(digits) * scale:g}"
    return str(int(whole + part) * 10 ** (zeros - len(part)))


def fold_numbers(tokens: Sequence[str]) -> list[str]:
    """Return lower-case ``tokens`` with the number words among them as digits, ordinals as "1st"."""
    if _STARTS.isdisjoint(tokens):
        return list(tokens)
    apart = "between" in tokens  # "between one hundred and fifty": two numbers
    out: list[str] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token not in _STARTS:
            out.append(token)
            at += 1
            continue
        before = out[-1] if out else ""
        if token == "one" and before in _SOMEBODY:
            out.append(token)
            at += 1
            continue
        if token in SCALES and _PLAIN.fullmatch(before) and before[0] != "0":
            out[-1] = scaled(before, SCALES[token])
            at += 1
            continue
        one = token in SCALES and before == "a"  # "a hundred"
        text, used = _number(tokens, at, apart, one)
        if text and one:
            out.pop()
        out.append(text or token)
        at += used
    return out


def _number(tokens: Sequence[str], start: int, apart: bool, one: bool) -> tuple[str, int]:
    """Return the number in words that begins at ``start``, as digits, and how many tokens it takes."""
    total, current = 0, int(one)
    at, last = start, "unit" if one else ""
    while at < len(tokens):
        token = tokens[at]
        size = VALUES.get(token, _PAIRS.get(token))
        if size is not None and _fits(last, size, current):
            current += size
            last = "ten" if size >= 20 and size % 10 == 0 else "unit"
        elif token == "hundred" and last == "unit" and current < 100 and current:
            current, last = current * 100, "hundred"
        elif token in ("thousand", "million") and last and (not total or SCALES[token] < total):
            total, current, last = total + current * SCALES[token], 0, "scale"
        elif token == "dozen" and last == "unit" and not total and current < 100:
            return str(current * 12), at + 1 - start
        elif token == "and" and last in ("hundred", "scale") and not apart and _small(tokens, at + 1):
            pass
        else:
            break
        at += 1
    if at < len(tokens):
        rank = ORDINALS.get(tokens[at], _ORDINAL_PAIRS.get(tokens[at]))
        if rank is not None and (at == start or _fits(last, rank, current)) and not _unit_of_time(tokens, at):
            return ordinal(total + current + rank), at + 1 - start
    if at == start:
        return "", 1
    return str(total + current), at - start


def _fits(last: str, size: int, current: int) -> bool:
    """Whether a number of this size may follow within the same number."""
    if last == "":
        return True
    if size == 0:
        return False
    if last == "ten":
        return size < 10
    return last in ("hundred", "scale") and size < 100 and current % 100 == 0


def _unit_of_time(tokens: Sequence[str], at: int) -> bool:
    """Whether "second" stands there as a length of time: "20 second", "per second"."""
    before = tokens[at - 1] if at and tokens[at] == "second" else ""
    return before == "per" or before[:1].isdigit() or before in NUMBER_WORDS


def _small(tokens: Sequence[str], at: int) -> bool:
    """Whether a number below a hundred in words stands there."""
    if at >= len(tokens):
        return False
    word = tokens[at]
    return bool(VALUES.get(word) or word in _PAIRS or word in ORDINALS or word in _ORDINAL_PAIRS)
