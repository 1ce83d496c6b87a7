"""The numbers of a text: amounts with their units, times of day, and codes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SHAPE = re.compile(
    r"(?P<sign>[$£€])?(?P<digits>\d+(?:\.\d+)?)(?::(?P<minutes>[0-5]\d))?(?P<end>%|(?:st|nd|rd|th)\b)?(?P<letters>[a-z]*)"
)
_SEPARATED = re.compile(r"(?<=\d),(?=\d\d\d)")
_HOUR = 3600.0
_DAY = 24 * _HOUR

# unit -> its family and how many of the family's smallest unit it is
UNITS: dict[str, tuple[str, float]] = {}
for _family, _units in (
    (
        "time",
        {
            "second seconds sec secs": 1.0,
            "minute minutes min mins": 60.0,
            "hour hours hr hrs h": _HOUR,
            "day days night nights": _DAY,
            "week weeks wk wks": 7 * _DAY,
            "fortnight fortnights": 14 * _DAY,
            "month months": 30.44 * _DAY,
            "year years yr yrs": 365.25 * _DAY,
            "decade decades": 3652.5 * _DAY,
            "century centuries": 36525 * _DAY,
        },
    ),
    ("mass", {"mg": 1e-3, "g gram grams": 1.0, "kg kilo kilos kilogram kilograms": 1e3, "tonne tonnes": 1e6}),
    (
        "length",
        {
            "mm": 1.0,
            "cm centimeter centimeters": 10.0,
            "m meter meters metre metres": 1e3,
            "km kms kilometer kilometers": 1e6,
        },
    ),
    ("volume", {"ml milliliter milliliters": 1.0, "cl": 10.0, "l liter liters": 1e3}),
    (
        "data",
        {
            "kb": 1e3,
            "mb megabyte megabytes": 1e6,
            "gb gig gigs gigabyte gigabytes": 1e9,
            "tb terabyte terabytes": 1e12,
        },
    ),
):
    for _names, _size in _units.items():
        UNITS |= dict.fromkeys(_names.split(), (_family, _size))
_SCALES = {"k": 1e3, "m": 1e6, "mn": 1e6, "bn": 1e9}
_BARE = {"fortnight": 14 * _DAY, "week": 7 * _DAY, "month": 30.44 * _DAY, "year": 365.25 * _DAY, "day": _DAY}
_NEAR = 0.03  # "30 days" and "a month"


@dataclass(slots=True, frozen=True)
class Amount:
    """A number; ``readings`` are the values it may be written as elsewhere ("9pm": 9 and 21)."""

    token: str
    readings: frozenset[float]
    sort: str = "plain"  # or rank, year, percent, money, time, measure
    family: str = ""  # of its unit
    size: float = 0.0  # in the family's smallest unit
    exact: float = 0.0  # of a year, or of a time with am or pm
    half_day: bool = False  # whether it says am or pm
    after: str = ""  # the token after it

    def same(self, other: Amount) -> bool:
        if self.sort == other.sort and (self.sort == "year" or (self.half_day and other.half_day)):
            return self.exact == other.exact
        if self.family and self.family == other.family:
            return abs(self.size - other.size) <= _NEAR * max(self.size, other.size)
        return not self.readings.isdisjoint(other.readings)


def amounts(tokens: Sequence[str]) -> list[Amount]:
    """Return the numbers among lower-case tokens, number words being digits already."""
    found = []
    for at, token in enumerate(tokens):
        if token[0].isdigit() or token[0] in "$£€":
            after = tokens[at + 1] if at + 1 < len(tokens) else ""
            if after in ("more", "extra", "full", "whole", "business", "working", "calendar"):
                after = tokens[at + 2] if at + 2 < len(tokens) else ""
            amount = _amount(token, after)
            if amount:
                found.append(amount)
        elif token in _BARE and at and tokens[at - 1] in ("a", "per", "every", "each", "one"):
            found.append(Amount("", frozenset(), "measure", "time", _BARE[token]))
    return found


def _amount(token: str, after: str) -> Amount | None:
    shape = _SHAPE.fullmatch(_SEPARATED.sub("", token))
    if shape is None or len(shape["digits"]) > 15:
        return None
    value, letters, end = float(shape["digits"]), shape["letters"], shape["end"] or ""
    readings, sort = (
        {value},
        "percent" if end == "%" else "money" if shape["sign"] else "rank" if end else "plain",
    )
    if shape["minutes"]:
        value += int(shape["minutes"]) / 60
        readings, sort = {value, value + 12, value - 12}, "time"
    half_day = letters if letters in ("am", "pm") else after if after in ("am", "pm") and value <= 12 else ""
    if half_day:
        readings, sort = {value, value + 12 if half_day == "pm" else -value}, "time"
        if not shape["minutes"] and "." in shape["digits"]:  # "6.30 pm"
            value = int(value) + float(shape["digits"].split(".")[1]) / 60
            readings |= {value, value + 12 if half_day == "pm" else value - 12}
        value += 12 if half_day == "pm" else 0
    elif letters in _SCALES and (shape["sign"] or letters == "k"):
        readings |= {value * _SCALES[letters]}
    elif sort == "plain" and "." in shape["digits"]:
        hours, minutes = shape["digits"].split(".")
        readings |= {int(hours) + int(minutes) / 60, int(hours) + int(minutes) / 60 - 12}  # "6.30"
    elif sort == "plain" and len(shape["digits"]) == 4 and 1500 <= value < 2100 and not letters:
        readings, sort = {value, value % 100 if value >= 1900 else value}, "year"  # '77 is 1977
    unit = UNITS.get(letters) or UNITS.get(after)
    if letters and not unit and not half_day and letters not in _SCALES:
        return None
    if unit and sort == "plain":
        return Amount(token, frozenset(readings), "measure", unit[0], value * unit[1], after=after)
    return Amount(token, frozenset(readings), sort, exact=value, half_day=bool(half_day), after=after)
