"""What a prompt shows of its difficulty at a glance: counts of structure and words, hashed words and pairs of words.

Bounded: of a long text the beginning and the end are read, where the task is said. Plain Python: a look-up in a set or
an array costs less than a call into a numeric library here.
"""

from __future__ import annotations

import math
import re
from zlib import crc32

HEAD, TAIL = 2400, 1200  # characters read at the beginning and the end
BUCKETS = 1 << 15

_TOKENS = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+(?:\.\d+)?|[^\W\d_a-z]+|[^\s\w]")
_OPTION = re.compile(r"^\s*\(?[A-Ea-e1-5][.):] ?(.*)$", re.M)

#: Words by what they tell. The score counts how many of a kind there are, not which.
LEXICONS: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "negation": "not no never except least neither nor without false incorrect wrong isn't doesn't don't cannot unless",
        "condition": "if suppose assume given let unless whenever provided assuming otherwise",
        "compute": "calculate compute find determine evaluate solve simplify derive integrate differentiate estimate how many much",
        "amount": "percent total average ratio rate sum product difference remaining left each per twice half third times more less "
        "fewer double triple dozen hours minutes days weeks dollars cost price cents profit altogether",
        "proof": "prove proof show theorem lemma induction contradiction converse iff therefore hence valid invalid premise "
        "conclusion argument proposition entails",
        "judged": "statement statements following true both scenario scenarios best correct correctly accurate described",
        "reason": "why because cause causes explain reason effect result infer imply likely suggests compare contrast analyze "
        "evaluate discuss",
        "define": "what is called term refers known definition define mean means name meaning",
        "entity": "who whom whose when where year date country city actor president film movie song book wrote played born died won",
        "code": "function code python java javascript class return def implement algorithm array string list bug error sql query "
        "api regex compile script method program loop recursive thread database",
        "write": "write draft compose create generate story poem essay email letter blog post slogan script speech",
        "rewrite": "rewrite rephrase paraphrase edit correct proofread shorten improve fix polish translate summarize summarise "
        "summary translation",
        "constraint": "exactly must only words sentences bullet format json table at least most avoid include without limit "
        "maximum minimum style tone list",
        "design": "design architecture system plan strategy optimize scalable tradeoffs distributed implement roadmap pipeline",
        "person": "he she his her him they their patient man woman plaintiff defendant student person boy girl",
        "courtesy": "please thanks thank hi hello hey kindly could would",
        "law": "court contract statute liable plaintiff defendant tort constitution amendment owner property sued action motion",
        "medicine": "patient symptoms disease treatment diagnosis drug blood clinical syndrome infection therapy history exam",
        "quantum": "energy mass velocity force charge field electron quantum molecule reaction acid compound temperature pressure "
        "voltage equilibrium oxidation nmr",
        "abstract": "group ring field vector matrix eigenvalue polynomial prime integer function limit derivative integral continuous "
        "set subset graph tree probability random distribution variance hypothesis regression",
        "step": "step first then next finally after before last",
        "you": "you your i my me we our",
    }.items()
}
_MARKS = (
    "\n",
    "?",
    ",",
    ".",
    ":",
    ";",
    '"',
    "(",
    "$",
    "\\",
    "{",
    "=",
    "%",
    "|",
    "`",
    "_",
    "-",
    "*",
    "/",
    "^",
    "+",
)
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

NAMES: tuple[str, ...] = (
    "length",
    "words",
    "word length",
    "long words",
    "numbers",
    "longest number",
    "distinct words",
    "capitals",
    "other scripts",
    "sentences",
    "sentence length",
    "options",
    "option length",
    "longest option",
    "option spread",
    "numeric options",
    "question length",
    "last line length",
    *(f"mark {mark!r}" for mark in _MARKS),
    *(f"{name} words" for name in LEXICONS),
    *(f"{name} share" for name in LEXICONS),
    *(f"opens with {word}" for word in _OPENERS),
    *(f"asks {word}" for word in _OPENERS[:7]),
)


class Features:
    """``dense``: a value for each of :data:`NAMES`. ``grams``: hashed words and pairs, each once, below ``BUCKETS``."""

    __slots__ = ("dense", "grams")

    def __init__(self, dense: list[float], grams: list[int]) -> None:
        self.dense = dense
        self.grams = grams


def cut(text: str) -> str:
    """Return what is read of a text."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"


def features(text: str) -> Features:
    """Return the features of a prompt."""
    whole = len(text)
    text = cut(text).strip()
    size = max(1, len(text))
    lower = text.lower()
    tokens = _TOKENS.findall(lower)
    words = [t for t in tokens if t[0].isalpha()]
    numbers = [t for t in tokens if t[0].isdigit()]
    count = max(1, len(words))
    options = _OPTION.findall(text)
    sizes = [len(o) for o in options]
    body = text[: text.find(options[0])] if options and options[0] else text
    sentences = 1 + body.count(". ") + body.count("? ") + body.count(".\n")
    lines = text.rsplit("\n", 1)
    mean = sum(sizes) / len(sizes) if sizes else 0.0
    dense = [
        math.log1p(whole),
        math.log1p(len(words)),
        sum(map(len, words)) / count,
        sum(len(w) > 8 for w in words) / count,
        math.log1p(len(numbers)),
        float(max(map(len, numbers), default=0)),
        len(set(words)) / count,
        sum(map(str.isupper, text)) / size,
        sum(ord(c) > 591 for c in text) / size,
        math.log1p(sentences),
        math.log1p(len(body) / sentences),
        float(min(len(options), 6)),
        math.log1p(mean),
        math.log1p(max(sizes, default=0)),
        math.log1p(max((abs(s - mean) for s in sizes), default=0.0)),
        sum(o.strip(" $-.")[:1].isdigit() for o in options) / max(1, len(options)),
        math.log1p(len(body)),
        math.log1p(len(lines[-1])),
        *(math.log1p(text.count(mark)) for mark in _MARKS),
    ]
    shares = []
    for lexicon in LEXICONS.values():
        found = sum(map(lexicon.__contains__, words))
        dense.append(math.log1p(found))
        shares.append(found / count)
    dense += shares
    opening = words[0] if words else ""
    dense += [float(opening == word) for word in _OPENERS]
    asking = set(_asking(body.lower()))
    dense += [float(word in asking) for word in _OPENERS[:7]]
    return Features(dense, _grams(tokens))


def _asking(body: str) -> list[str]:
    """Return the first words of the last question."""
    end = body.rfind("?")
    start = max(body.rfind(mark, 0, end) for mark in (". ", "? ", "\n", "! "))
    return body[start + 1 : end if end >= 0 else None].split()[:4]


def _grams(tokens: list[str]) -> list[int]:
    """Return the hashed words and pairs of neighbours. Numbers count by their number of digits: 17 and 18 are alike."""
    kinds = [f"#{len(t)}" if t[0].isdigit() else t for t in tokens]
    found = {crc32(kind.encode()) % BUCKETS for kind in kinds}
    found.update(crc32(f"{a} {b}".encode()) % BUCKETS for a, b in zip(kinds, kinds[1:], strict=False))
    return list(found)
