"""Pairs of questions from groups, and harmless noise.

A line of ``data/*.jsonl`` is a group: ``q``, wordings that ask for the ``same`` answer, and traps (``diff``)
that look alike and need another. Every wording of a group is a positive pair with every other; every wording
with every trap is a negative.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

HELD_OUT = 0.12  # share of the groups that is not trained on: calibration and tests


class Pair(NamedTuple):
    """``a`` was answered, ``b`` is asked; ``same``: the answer fits. ``group`` and ``kind`` are for reports."""

    a: str
    b: str
    same: bool
    group: str
    kind: str


class Group(NamedTuple):
    """Texts of one group."""

    name: str
    same: tuple[str, ...]
    diff: tuple[str, ...]

    @property
    def held_out(self) -> bool:
        """Decided by the text, so that adding groups moves none."""
        digest = hashlib.sha256(self.same[0].encode()).digest()
        return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT

    def pairs(self) -> Iterator[Pair]:
        """Yield all pairs whose label is known."""
        for a, b in combinations(self.same, 2):
            yield Pair(a, b, True, self.name, "same")
        for a in self.same:
            for b in self.diff:
                yield Pair(a, b, False, self.name, "trap")


def read(folder: Path) -> list[Group]:
    """Return the groups of all files in ``folder``; raise :class:`ValueError` with file and line for a broken one."""
    groups = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                same, diff = (row["q"], *row["same"]), tuple(row["diff"])
            except (ValueError, KeyError, TypeError) as exc:
                raise ValueError(f"{path.name}:{number}: {exc}") from None
            if len(set(same)) != len(same) or set(same) & set(diff):
                raise ValueError(f"{path.name}:{number}: a text comes twice")
            groups.append(Group(f"{path.stem}:{number}", same, diff))
    return groups


# -- noise: what people add or drop without meaning anything by it ----------------------------------

_BEFORE = (
    "hi, ", "hello, ", "hey ", "please ", "so ", "um ", "ok so ", "quick question: ", "just wondering, ",
    "can you tell me ", "could you tell me ", "i'd like to know ", "hi there! ", "sorry, ", "well, ",
)  # fmt: skip
_AFTER = (
    " thanks",
    " thank you!",
    " please",
    "...",
    "??",
    " cheers",
    " thx",
    "!",
    " ?",
    " Thanks in advance",
)
_PAIRS = (
    ("what is ", "what's "), ("what's ", "what is "), ("how do i ", "how can i "), ("how can i ", "how do i "),
    ("how do i ", "how to "), ("do not ", "don't "), ("cannot ", "can't "), ("i am ", "i'm "), (" you ", " u "),
    ("where is ", "where's "), ("is it possible to ", "can i "), ("what is the best way to ", "how do i "),
)  # fmt: skip


def noisy(text: str, rng: random.Random) -> str:
    """Return ``text`` as another person might type it; its meaning, numbers and names stay."""
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.randrange(7)
        if kind == 0:
            text = text.lower()
        elif kind == 1:
            text = text.rstrip("?.!")
        elif kind == 2:
            before = rng.choice(_BEFORE)
            text = before + (text[0].lower() + text[1:] if not text.startswith("I ") else text)
        elif kind == 3:
            text = text.rstrip("?.! ") + rng.choice(("", "?")) + rng.choice(_AFTER)
        elif kind == 4:
            text = _typo(text, rng)
        elif kind == 5:
            old, new = rng.choice(_PAIRS)
            text = re.sub(re.escape(old), new, text, count=1, flags=re.IGNORECASE)
        else:
            text = re.sub(r"[,'’\"]", "", text)
    return text


def _typo(text: str, rng: random.Random) -> str:
    """Swap, drop or double a letter inside one lower-case word of five letters or more."""
    words = list(re.finditer(r"\b[a-z]{5,}\b", text))
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 2)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    return text[:at] + text[at] + text[at:]
