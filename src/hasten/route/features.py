"""What a prompt shows of its difficulty at a glance: its structure, the kinds of its words, and the words themselves.

Bounded: of a long text the beginning and the end are read, where the task is said. What does not matter is taken off
first: case, spacing, courtesies, the last punctuation, ``Question:`` and ``Answer:``. Plain Python: a look-up in a
dict costs less than a call into a numeric library here.
"""

from __future__ import annotations

import re
from collections import Counter
from math import log, log1p
from pathlib import Path

HEAD, TAIL = 1100, 600  # characters read at the beginning and the end
HERE = Path(__file__).parent / "model"

_OPENING = re.compile(
    r"^(?:(?:hi|hello|hey|good (?:morning|afternoon|evening))(?: there| all| everyone)?\b|"
    r"please\b|kindly\b|(?:could|can|would|will) you (?:please|kindly)\b|(?:could|would) you\b|"
    r"i(?:'d| would) like you to\b|i need you to\b|help me to\b|question ?:|q ?:|[\s,.!:;])+"
)
_ENDINGS = (
    "answer:",
    "a:",
    "answer",
    "please",
    "thanks",
    "thank you",
    "so much",
    "a lot",
    "in advance",
    "very much",
)
_LOOSE = " \n.!?,;:"

#: What a mark is counted as.
_MARKS = {
    "line": "\n",
    "comma": ",",
    "colon": ":;",
    "quote": "\"'",
    "bracket": "([",
    "brace": "{}",
    "backslash": "\\",
    "dollar": "$",
    "percent": "%",
    "blank": "_",
    "backtick": "`",
    "bar": "|",
    "operator": "=+*/^<>",
    "dash": "-",
    "question": "?",
    "other": "",
}
_KEPT = {ord(mark): chr(i) for i, marks in enumerate(_MARKS.values()) for mark in marks}
#: Latin letters and digits go, marks become their number among _MARKS, all else the last of them.
_MARK_TABLE = bytes(ord(_KEPT.get(i, chr(len(_MARKS) - 1))) for i in range(256))
_NO_MARKS = bytes(i for i in range(256) if chr(i).isalnum() or chr(i) in " .!\t")
_WORDS_ONLY = {i: " " for i in range(128) if not chr(i).isalnum() and chr(i) != "'"} | dict.fromkeys(
    map(ord, "“”«»—–…≡⊃∨∧→·、。，？！：；（）「」"), " "
)
_ASCII = tuple(zip("’‘“”–—−×…\u2028", "''\"\"---*.\n", strict=True))
_STYLES = [(before, after) for after in (". ", ") ", ": ") for before in ("\n", " ", "\n(", " (")]
_CENTURIES = ("15", "16", "17", "18", "19", "20")
_OPENERS = (
    "what",
    "which",
    "who",
    "when",
    "where",
    "why",
    "how",
    "if",
    "is",
    "write",
    "explain",
    "find",
    "a",
    "the",
    "in",
)
_ASKS = _OPENERS[:7]


def _lexicons() -> dict[str, list[str]]:
    lines = (HERE / "lexicons.txt").read_text(encoding="utf-8").splitlines()
    return {name: words.split() for name, _, words in (line.partition(": ") for line in lines)}


_LEXICONS = _lexicons()

#: Common English words to the logarithm of their place by frequency.
_RANK = {word: log(i + 1) for i, word in enumerate((HERE / "common.txt").read_text().split())}
_RARE = log(2 * len(_RANK))
_RARELY = log(6000)
_KINDS_OF: dict[str, tuple[int, ...]] = {}
for _i, _words in enumerate(_LEXICONS.values()):
    for _word in _words:
        _KINDS_OF[_word] = (*_KINDS_OF.get(_word, ()), _i)

NAMES: tuple[str, ...] = (
    "length",
    "words",
    "word length",
    "long words",
    "longest word",
    "numbers",
    "different numbers",
    "longest number",
    "numbers per sentence",
    "share of numbers",
    "years",
    "different words",
    "other scripts",
    "sentences",
    "sentence length",
    "longest sentence",
    "lines",
    "line length",
    "options",
    "option length",
    "longest option",
    "spread of options",
    "numeric options",
    "options alike",
    "options of two parts",
    "all or none option",
    "question length",
    "length of what is asked",
    "question before options",
    "statements to judge",
    "scenarios to judge",
    "not or except",
    "fill in",
    "rarity",
    "rare words",
    "rarest word",
    "rarity of options",
    "rarity of what is asked",
    *(f"mark: {name}" for name in _MARKS),
    *(f"{name} words" for name in _LEXICONS),
    *(f"{name} share" for name in _LEXICONS),
    *(f"opens with {word}" for word in _OPENERS),
    *(f"asks {word}" for word in _ASKS),
)


#: What weighs differently: a choice among options, a story to calculate from, all else.
FORMS = ("choice", "story", "open")
_AMOUNT = list(_LEXICONS).index("amount")
_OPERATOR = list(_MARKS).index("operator")


class Features:
    """``dense``: a value for each of :data:`NAMES`. ``words``: the words in order, lower case, and for each number
    ``#`` with its count of digits. ``form``: one of :data:`FORMS`."""

    __slots__ = ("dense", "form", "words")

    def __init__(self, dense: list[float], words: list[str], form: str) -> None:
        self.dense = dense
        self.words = words
        self.form = form

    def grams(self) -> set[str]:
        """Return the different words and pairs of neighbours."""
        found = set(self.words)
        found.update(map("{} {}".format, self.words, self.words[1:]))
        return found


def plain(text: str) -> str:
    """Return what is read of a text, without what does not matter."""
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]}\n{text[-TAIL:]}"
    text = text.lower()
    if not text.isascii():
        for mark, ascii_ in _ASCII:
            text = text.replace(mark, ascii_)
    lines = [" ".join(line.split()) for line in text.split("\n")]
    text = "\n".join(filter(None, lines))
    bare = _OPENING.sub("", text).rstrip(_LOOSE)
    while bare.endswith(_ENDINGS):
        bare = next(bare.removesuffix(end) for end in _ENDINGS if bare.endswith(end)).rstrip(_LOOSE)
    return bare or text


def features(text: str) -> Features:
    """Return the features of a prompt: any text, also an empty one or one with lone surrogates."""
    whole = len(text)
    text = plain(text)
    tokens = text.translate(_WORDS_ONLY).split()
    body, options = _options(text)
    sentences = body.replace("? ", ". ").replace("! ", ". ").replace(".\n", ". ").split(". ")
    asked = sentences[-1].translate(_WORDS_ONLY).split()
    seen = _Seen(tokens)
    count = max(1, seen.count)
    lines = text.count("\n") + 1
    marks = text.encode("latin-1", "ignore").translate(_MARK_TABLE, _NO_MARKS)
    dense = [
        log1p(min(whole, 4 * (HEAD + TAIL))),
        log1p(seen.count),
        min(12.0, seen.letters / count),
        seen.long / count,
        float(min(24, seen.longest)),
        log1p(seen.numbers),
        log1p(seen.different_numbers),
        float(min(12, seen.digits)),
        seen.numbers / len(sentences),
        seen.numbers / max(1, len(tokens)),
        log1p(seen.years),
        seen.different / count,
        0.0 if text.isascii() else sum(c > "\u024f" for c in text) / len(text),
        log1p(len(sentences)),
        log1p(len(body) / len(sentences)),
        log1p(max(map(len, sentences))),
        log1p(lines),
        log1p(len(text) / lines),
        *_of_options(options),
        log1p(len(body)),
        log1p(len(asked)),
        float(body.endswith("?")),
        float("statement 1" in text or "statement i" in text or "statements" in asked),
        float("scenario 1" in text or "scenarios" in asked),
        float("except" in asked or "not" in asked or "least" in asked or "false" in asked),
        float("__" in text),
        seen.rarity / count,
        seen.rare / count,
        seen.rarest,
        _rarity(" ".join(options).translate(_WORDS_ONLY).split()),
        _rarity(asked),
        *(log1p(marks.count(i)) for i in range(len(_MARKS))),
        *map(log1p, seen.kinds),
        *(n / count for n in seen.kinds),
    ]
    opening = tokens[0] if tokens else ""
    dense += [float(opening == word) for word in _OPENERS]
    dense += [float(word in asked) for word in _ASKS]
    form = _form(len(options), seen.numbers, seen.kinds[_AMOUNT], marks.count(_OPERATOR))
    return Features(dense, [f"#{len(t)}" if t[0].isdigit() else t for t in tokens], form)


def _form(options: int, numbers: int, amounts: int, operators: int) -> str:
    if options:
        return "choice"
    return "story" if numbers > 1 and amounts and operators < 3 else "open"


class _Seen:
    """The words and numbers of a text, counted."""

    def __init__(self, tokens: list[str]) -> None:
        self.count = self.letters = self.long = self.longest = self.different = self.rare = 0
        self.numbers = self.different_numbers = self.digits = self.years = 0
        self.rarity = self.rarest = 0.0
        kinds = [0] * len(_LEXICONS)
        for token, n in Counter(tokens).items():
            size = len(token)
            if token[0].isdigit():
                self.numbers += n
                self.different_numbers += 1
                self.digits = max(self.digits, size)
                self.years += size == 4 and token[:2] in _CENTURIES
                continue
            self.count += n
            self.different += 1
            self.letters += n * size
            if size > 8:
                self.long += n
            if size > self.longest:
                self.longest = size
            rank = _RANK.get(token, _RARE)
            self.rarity += n * rank
            if rank > _RARELY:
                self.rare += n
            if rank > self.rarest:
                self.rarest = rank
            for i in _KINDS_OF.get(token, ()):
                kinds[i] += n
        self.kinds = kinds


def _options(text: str) -> tuple[str, list[str]]:
    """Return what comes before the options to choose from, and the options: a, b, c... in this order."""
    for before, after in _STYLES:
        start = text.rfind(f"{before}a{after}")
        if start < 0:
            continue
        starts = [start]
        for letter in "bcdefghij":
            at = text.find(f"{before}{letter}{after}", starts[-1])
            if at < 0:
                break
            starts.append(at)
        if len(starts) > 1:
            skip = len(before) + 1 + len(after)
            ends = [*starts[1:], len(text)]
            found = [text[i + skip : j].strip(" .\n") for i, j in zip(starts, ends, strict=True)]
            return text[:start].strip(), found
    return text, []


def _of_options(options: list[str]) -> list[float]:
    """Return what the options show, whatever their order."""
    if not options:
        return [0.0] * 8
    n = len(options)
    sizes = list(map(len, options))
    mean = sum(sizes) / n
    sets = [set(option.split()) for option in options]
    union = set[str]().union(*sets)
    return [
        float(n),
        log1p(mean),
        log1p(max(sizes)),
        log1p(max(abs(size - mean) for size in sizes)),
        sum(option.lstrip(" $-.(")[:1].isdigit() for option in options) / n,
        (sum(map(len, sets)) / max(1, len(union)) - 1) / (n - 1),
        sum(", " in option or " and " in option for option in options) / n,
        float(
            any(o.startswith(("all of", "none of", "both", "neither", "all the", "none")) for o in options)
        ),
    ]


def _rarity(tokens: list[str]) -> float:
    """Return the mean rarity of words."""
    ranks = [_RANK.get(t, _RARE) for t in tokens if not t[0].isdigit()]
    return sum(ranks) / max(1, len(ranks))
