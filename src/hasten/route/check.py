"""Whether an answer looks right, from the question and the answer alone: a small logistic model over named features.

What can be worked out again is (:mod:`hasten.route.arithmetic`), what was given is compared with what was used
(:mod:`hasten.route.quantities`); the rest is how the answer is said. Where there is nothing to calculate, the
features of calculations are 0. Plain Python, under a millisecond.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from hasten.route.arithmetic import NUMBER, Step, numbers, plain, steps
from hasten.route.quantities import Use, quantities, use

_FINAL = re.compile(r"(?:####|\bfinal answer\b[^\n]{0,20}?:?|\b(?:the )?answer(?: is|:)|\\boxed)")
_HEDGE = re.compile(
    r"\b(?:i'm not sure|not certain|approximately|about|around|roughly|perhaps|maybe|might|probably|"
    r"assum\w+|unclear|not (?:specified|given|stated|enough|provided)|don't know|do not know|cannot|can't|"
    r"however|actually|wait|let's say)\b",
    re.I,
)
_UNSURE = re.compile(
    r"\b(?:i'm not sure|unclear|not (?:specified|given|stated|enough|provided)|don't know|do not know|"
    r"cannot be|assum\w+)\b",
    re.I,
)
#: What an answer may bring in: units of time, angles, distances, parts.
_CONSTANT_TEXT = "0 .01 .25 .5 .75 1 2 3 4 5 7 10 12 16 24 30 31 36 50 52 60 100 180 360 365 1000 3600 5280"
_CONSTANTS = frozenset(float(n) for n in _CONSTANT_TEXT.split())
_COUNTED = re.compile(r"\bhow many (\w+)", re.I)
_COUNT = re.compile(r"\bhow (?:many|much|old|long|far|fast|tall)\b", re.I)
_RESULT = re.compile(r"[.!?:]\s+|\n")

#: Words of questions that are misread more often.
_HARD = ("old", "twice", "half", "rest", "speed", "average", "percent", "only")

MODEL = Path(__file__).parent / "model" / "check.json"


class Check:
    """The model. ``weights``: of each feature its weight and the bounds that training saw; others count nothing."""

    def __init__(self, bias: float, weights: dict[str, tuple[float, float, float]]) -> None:
        self.bias = bias
        self.weights = weights

    @classmethod
    def load(cls, path: Path = MODEL) -> Check:
        """Return the one that is shipped, or another. See ``training/cascade/README.md``."""
        tree = json.loads(path.read_text())
        return cls(tree["bias"], {name: (w, low, high) for name, (w, low, high) in tree["weights"].items()})

    def probability(self, question: str, answer: str) -> float:
        """Return the probability that the answer to a word problem is wrong, 0..1."""
        return self._probability(Reading(question, answer))

    def _probability(self, read: Reading) -> float:
        found = features(read)
        z = self.bias
        for name, (weight, low, high) in self.weights.items():
            z += weight * min(high, max(low, found[name]))
        return 1.0 / (1.0 + math.exp(-z))

    def verdict(self, question: str, answer: str, limit: float) -> str | None:
        """Return why an answer falls short: ``arithmetic`` is wrong, the ``check`` finds it likelier than ``limit``.

        The model knows word problems only, so it is asked about nothing else.
        """
        if limit >= 1.0:
            return None
        read = Reading(question, answer)
        if not read.calculates:
            return None
        if any(step.wrong for step in read.steps):
            return "arithmetic"
        return "check" if self._probability(read) > limit else None

    def __repr__(self) -> str:
        return f"<Check {len(self.weights)} features>"


class Reading:
    """A question and its answer, read once."""

    def __init__(self, question: str, answer: str) -> None:
        self.question = plain(question[-4000:])
        self.text = answer
        self.answer = plain(answer)
        self.steps = steps(self.answer)
        self.given = quantities(self.question)
        self.said = numbers(self.answer)
        marks = list(_FINAL.finditer(self.answer))
        after = self.answer[marks[-1].end() :] if marks else ""
        tail = numbers(after) or self.said[-1:]
        self.final: float | None = tail[0] if tail else None
        end = self.question.rstrip().rfind("?")
        start = max((self.question.rfind(m, 0, max(0, end)) for m in (". ", "? ", "! ", "\n")), default=-1)
        self.asked = self.question[start + 1 :]

    @property
    def calculates(self) -> bool:
        """Whether it is a word problem: numbers are given, and one is asked for or worked out."""
        if len(self.given) < 2 or "```" in self.text:
            return False
        return bool(self.steps) or (bool(self.said) and _COUNT.search(self.question) is not None)


def features(read: Reading) -> dict[str, float]:
    """Return the features by name."""
    found = dict(_form(read))
    found.update(_calculations(read))
    found.update(_usage(read))
    found.update(_asks(read))
    found.update(_words(read))
    return found


def _form(read: Reading) -> Iterator[tuple[str, float]]:
    answer = read.text
    text = answer.rstrip()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    size, asked = len(text), len(read.question)
    yield "answer length", math.log1p(size)
    yield "question length", math.log1p(asked)
    yield "answer over question", math.log1p(size) - math.log1p(asked)
    yield "repeated lines", float(len(lines) - len(set(lines)))
    yield "cut off", float("<<" in answer[answer.rfind(">>") + 1 :] or text[-1:] in tuple("+-*/=,$(<"))
    yield "no end", float(text[-1:].isalpha())
    yield "hedges", math.log1p(len(_HEDGE.findall(answer)))
    yield "unsure", float(len(_UNSURE.findall(answer)))
    yield "unknowns", float(bool(re.search(r"\b[b-zB-HJ-Z] ?= ?|\blet [a-zA-Z] ", read.answer)))
    yield "words per step", math.log1p(size / (1 + len(read.steps)))


def _calculations(read: Reading) -> Iterator[tuple[str, float]]:
    done = read.steps
    wrong = sum(step.wrong for step in done)
    signs = "".join(step.operators for step in done)
    yield "steps", math.log1p(len(done))
    yield "no steps", float(not done)
    yield "wrong", float(min(wrong, 3))
    yield "any wrong", float(wrong > 0)
    for name, sign in (("adds", "+"), ("subtracts", "-"), ("multiplies", "*"), ("divides", "/")):
        yield name, math.log1p(signs.count(sign))
    yield "long steps", float(sum(len(step.operators) > 2 for step in done))
    known = {round(form, 6) for quantity in read.given for form in quantity.forms}
    known.update(round(n, 6) for n in numbers(read.question))
    asked = set(known)
    strange = constants = repeats = 0
    results: dict[float, int] = {}
    for step in done:
        for operand in step.operands:
            o = round(operand, 6)
            if o in results:
                results[o] += 1
            if o not in known:
                if o in _CONSTANTS:
                    constants += 1
                else:
                    strange += 1
                known.add(o)
        r = round(step.right, 6)
        repeats += r in results
        results.setdefault(r, 0)
        known.add(r)
    yield "strange operands", float(min(strange, 3))
    yield "constants", float(min(constants, 3))
    yield "same result again", float(min(repeats, 3))
    final = None if read.final is None else round(read.final, 6)
    yield "unused results", float(min(sum(not n and r != final for r, n in results.items()), 4))
    yield "results used twice", float(sum(n > 1 for n in results.values()))
    yield "negative result", float(any(step.left < 0 for step in done))
    yield (
        "fraction of a thing",
        float(sum(step.left != int(step.left) for step in done if abs(step.left) < 1e15)),
    )
    yield from _final(read, done, asked)


def _final(read: Reading, done: list[Step], known: set[float]) -> Iterator[tuple[str, float]]:
    final = read.final
    yield "no number", float(final is None and bool(read.given))
    last = done[-1].right if done else None
    value = 0.0 if final is None else final
    there = final is not None and bool(done)
    yield "final is not the last result", float(there and last is not None and abs(value - last) > 0.011)
    yield "final is given", float(there and round(value, 6) in known)
    yield "final is not whole", float(final is not None and value != int(value))
    counted = bool(_COUNTED.search(read.asked))
    yield "part of something counted", float(counted and final is not None and value != int(value))
    yield "final is round", float(there and value != 0 and value % 10 == 0)
    biggest = max((abs(q.value) for q in read.given), default=0.0)
    yield "final over given", math.log((abs(value) + 1) / (biggest + 1)) if there else 0.0
    yield "final size", math.log1p(abs(value)) if there else 0.0
    marks = [numbers(read.answer[m.end() : m.end() + 40])[:1] for m in _FINAL.finditer(read.answer)]
    finals = {n[0] for n in marks if n}
    yield "two finals", float(len(finals) > 1)


def _usage(read: Reading) -> Iterator[tuple[str, float]]:
    used = use(read.given, read.steps, {round(n, 6) for n in read.said}) if read.steps or read.said else Use()
    for name, count in zip(Use._fields, used, strict=True):
        yield name.replace("_", " "), math.log1p(count)
    yield "unused share", used.unused / max(1, used.given)
    yield "unsaid share", used.unsaid / max(1, used.given)
    operators = sum(len(step.operators) for step in read.steps)
    yield "operators over given", operators - max(0, used.given - 1.0) if read.steps else 0.0
    kinds = [quantity.kind for quantity in read.given]
    for kind in ("minus", "plus", "times", "part", "percent"):
        yield f"given {kind}", float(kinds.count(kind))
    yield "changes", float(sum(quantity.change for quantity in read.given))


def _asks(read: Reading) -> Iterator[tuple[str, float]]:
    noun = _COUNTED.search(read.asked)
    tail = read.answer[-400:].lower()
    yield "noun not in the end", float(noun is not None and noun[1].lower()[:5] not in tail)
    yield "asks how many", float(noun is not None)
    yield "asks how much", float("how much" in read.asked.lower())


def _words(read: Reading) -> Iterator[tuple[str, float]]:
    words = re.findall(r"[a-z]+", read.question.lower())
    for word in _HARD:
        yield f"says {word}", math.log1p(words.count(word))
    sentences = max(1, len(_RESULT.findall(read.question)))
    yield "sentences", math.log1p(sentences)
    yield "given numbers", math.log1p(len(NUMBER.findall(read.question)))
    yield "word numbers", math.log1p(sum(not quantity.digits for quantity in read.given))
    values = [quantity.value for quantity in read.given]
    yield "a number twice", float(any(a == b for a, b in pairwise(sorted(values))))
