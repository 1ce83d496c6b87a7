"""The canonical form of a question: two texts with one canonical form ask for the same answer.

Only what never changes the answer is unified: spelling and punctuation, courtesies, numbers in words, and question
frames with one meaning. Where a text is not plainly an English question (code, other languages, questions about words,
requests that work on a text) it is hardly touched.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from hasten.cache.semantic.forms import (
    ABBREVIATED,
    ASKING,
    CLEAR,
    CODES,
    DOTTED,
    ENGLISH,
    FOREIGN,
    META,
    NAMES,
    PROGRAMMING,
    SAME_WORD,
    TITLES,
    TYPES,
    WORKS_ON_TEXT,
)
from hasten.cache.semantic.frames import MEASURES, SOUNDS, bare, framed, reframe, uncourteous
from hasten.cache.semantic.words import NUMBER_WORDS, fold_numbers, ordered, scaled

LONGEST = 2_000  # characters: what is longer is compared as it is
_PASSES = 4

_SUPERSCRIPTS = str.maketrans(
    {c: f"^{i}" for i, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
    | {c: f"_{i}" for i, c in enumerate("₀₁₂₃₄₅₆₇₈₉")}
    | {"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "⅛": " 1/8"}
    | dict.fromkeys("‘’‛ʼ´′", "'")
    | dict.fromkeys("“”„‟″«»", '"')
    | dict.fromkeys("‐‑‒−", "-")
    | {"–": " - ", "—": " - ", "…": "... "}
    | dict.fromkeys([*range(9), *range(14, 32), 127, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF], " ")
)
_DASHED_NUMBERS = re.compile(r"(?<=\d)[–—](?=\d)")
_CODE_SIGNS = frozenset("{}<>=\\|~^_")
_CODE_MARKS = ("::", "()", "$(", " -", "select ")
_CODE = re.compile(r"::|\w\(\)|\$\(|\s--?[a-z]|\bselect [^?]*\bfrom\b", re.ASCII)
_NOT_WORDS = str.maketrans(dict.fromkeys('0123456789.,;:!?()[]"`/-+*&%$£€#@', " "))
_BEYOND_LATIN = re.compile(r"[^\W\d_\u0000-\u024f]")
_PART = r"[^\s()\[\]\"`,;!?]+"
_CHUNK = rf"{_PART}(?:(?<=\d),(?=\d\d\d){_PART})*|[,;!?]+|[()\[\]\"`]"
_CHUNKS = re.compile(_CHUNK)
_QUOTED = re.compile(rf"`[^`]*`|\"[^\"]*\"|(?<![^\s(])'(?=\S)(?:[^']|(?<=\w)'(?=\w))*(?<=\S)'(?!\w)|{_CHUNK}")
_QUOTES = frozenset("\"'`")
_PROSE = re.compile(r"[A-Za-z][A-Za-z ',.?!-]* [A-Za-z ',.?!-]*")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_MONEY = re.compile(r"([$£€])(\d+(?:\.\d+)?)(k|m|bn)")
_COUNTED = re.compile(
    rf"(\d+(?:\.\d+)?|{'|'.join(sorted(NUMBER_WORDS - {'hundred', 'dozen'}, reverse=True))})-([a-z][a-z-]*)"
)
_SPLIT_ENDINGS = tuple(
    ordered(
        """
        -time -term -free -friendly -based -old -in -out -up -off -hand -class -level -speed -sized -wide -proof
        -related -up-to-date -by-step -to-face -to-end -to-day
        """
    )
)
_PERCENT = re.compile(r"(?<=\d) (?:percent|per cent|pct|%)(?= |$)")
_DOLLARS = re.compile(r"(?<![\w$£€.])(\d+(?:\.\d+)?) dollars(?= |$)")
_EUROS = re.compile(r"(?<![\w$£€.])(\d+(?:\.\d+)?) euros?(?= |$)")
_CLOCK = re.compile(r"\b(1[0-2]|[1-9])(?::00|(:[0-5]\d))? ?([ap])m(?= |$)")
_WOULD = re.compile(
    r"\b(i|you|we|he|she|they|it)'d (?=(?:like|love|rather|prefer|want|need|be|recommend|suggest|say|appreciate)\b)"
)
_CASE_WORDS = frozenset(("case", "uppercase", "lowercase", "letter", "letters"))


def canonical(text: str) -> str:
    """Return the canonical form of ``text``. Equal forms ask for the same answer; the form of a form is itself."""
    text = text.strip()
    if len(text) > LONGEST:
        return text
    for _ in range(_PASSES):
        form, settled = _pass(text)
        if settled or form == text:
            return form
        text = form
    return text


def _pass(text: str) -> tuple[str, bool]:
    """Return the form of a text, and whether it is known to be the form of itself."""
    plain = _characters(text)
    if "\n" in plain:
        plain = _one_line(plain)
    if not plain or "\n" in plain:
        return plain or text, False
    lower = plain.lower()
    if not _CODE_SIGNS.isdisjoint(lower) or (
        any(map(lower.__contains__, _CODE_MARKS)) and _CODE.search(lower)
    ):
        return " ".join(plain.split()), False
    words = lower.translate(_NOT_WORDS).split()
    known = set(words)
    english, foreign = len(known & ENGLISH), len(known & FOREIGN)
    if foreign > english or (not plain.isascii() and (not english or _BEYOND_LATIN.search(plain))):
        return " ".join(plain.split()).rstrip("?!.¿¡ ") or plain, False
    light = not META.isdisjoint(known) or _works_on_text(words, known)
    tokens, quoted = _tokens(plain, known, light)
    if light:
        spelt = " ".join(tokens)
        form = framed(uncourteous(spelt))
    else:
        tokens = " ".join(tokens).split(" ")
        counted = fold_numbers(tokens)
        spelt = " ".join(tokens)
        if not SOUNDS.isdisjoint(counted):
            counted = _without_sounds(counted)
        form = _units(" ".join(counted))
        form = reframe(form) if english else bare(form)
    settled = form == spelt and form.isascii() and not quoted
    for mark, span in quoted.items():
        form = form.replace(mark, span)
    return form.strip() or plain, settled


def _units(form: str) -> str:
    """Return the form with its amounts and times of day written in one way."""
    if "'d " in form:
        form = _WOULD.sub(r"\1 would ", form)
    if "%" in form or "per" in form or "pct" in form:
        form = _PERCENT.sub("%", form)
    if " dollars" in form:
        form = _DOLLARS.sub(r"$\1", form)
    if " euro" in form:
        form = _EUROS.sub(r"€\1", form)
    if "pm" in form or "am" in form:
        form = _CLOCK.sub(r"\1\2\3m", form)
    return form


def _works_on_text(words: list[str], known: set[str]) -> bool:
    if WORKS_ON_TEXT.isdisjoint(known):
        return False
    return next((word for word in words if word not in ASKING), "") in WORKS_ON_TEXT


def _characters(text: str) -> str:
    """Return the text with its characters in one form; what NFKC would merge wrongly (x², x2) is set apart first."""
    if text.isascii():
        return text.translate(_SUPERSCRIPTS).strip() if not text.isprintable() else text
    text = _DASHED_NUMBERS.sub("-", text)
    return unicodedata.normalize("NFKC", text.translate(_SUPERSCRIPTS)).strip()


def _one_line(text: str) -> str:
    """Return a text of several lines as one line if all but one are courtesies, else with its lines as they are."""
    lines = [line for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not _COURTEOUS_LINE.fullmatch(line.strip().lower())]
    if len(kept) == 1:
        return kept[0].strip()
    return "\n".join(line.rstrip() for line in text.split("\n"))


_COURTEOUS_LINE = re.compile(
    r"(?:hi|hello|hey|hiya|good (?:morning|afternoon|evening)|thanks|thank you|many thanks|cheers|please|regards|"
    r"kind regards|best regards)(?: there| all| team| everyone| in advance| so much| a lot| very much)?[ ,.!]*"
)


def _tokens(plain: str, known: set[str], light: bool) -> tuple[list[str], dict[str, str]]:
    """Return the tokens in canonical spelling, quoted spans as marks, and what the marks stand for."""
    chunks = (_QUOTED if not _QUOTES.isdisjoint(plain) else _CHUNKS).findall(plain)
    quoted: dict[str, str] = {}
    tokens: list[str] = []
    as_typed = light and not known.isdisjoint(_CASE_WORDS)
    shouted = _shouted(plain, chunks)
    programming = not known.isdisjoint(PROGRAMMING)
    initial = True
    for at, chunk in enumerate(chunks):
        if chunk.islower() and chunk.isalpha():
            word = chunk if light else SAME_WORD.get(chunk, chunk)
            tokens.append("US" if word == "us" and not light and tokens and tokens[-1] == "the" else word)
            initial = False
            continue
        head = chunk[0]
        if head in "\"'`" and len(chunk) > 1 and chunk[-1] == head:
            mark = f"\x01{len(quoted)}\x02"
            quoted[mark] = _span(chunk)
            tokens.append(mark)
            initial = False
            continue
        if head in ",;!?":
            tokens.append("," if head == "," else "?" if "?" in chunk else ".")
            initial = head != ","
            continue
        core = chunk.rstrip(".:") if chunk[-1] in ".:" else chunk
        if not core:
            tokens.append(":" if chunk == ":" else ".")
            continue
        before = tokens[-1] if tokens else ""
        lower = core.lower()
        if lower == core or as_typed:
            word = core
        elif shouted:
            word = lower
        else:
            after = chunks[at + 1] if at + 1 < len(chunks) else ""
            word = _cased(core, before, after, initial, programming)
        tokens.append(word if light else _respelt(word, before))
        initial = False
        if core is not chunk:
            if chunk[-1] == ":":
                tokens.append(":")
            elif lower not in ABBREVIATED:
                tokens.append(".")
                initial = True
    while tokens and tokens[-1] in (".", ",", "?", ":", "-"):
        tokens.pop()
    return tokens, quoted


def _shouted(plain: str, chunks: list[str]) -> bool:
    """Whether the capitals say nothing: the whole text is in capitals, or each of its words has one."""
    if plain.islower() or len(chunks) < 4:
        return False
    if plain.isupper():
        return True
    return all(chunk[0].isupper() or not chunk[0].isalpha() for chunk in chunks)


def _span(chunk: str) -> str:
    """Return a quoted span without outer white space; prose gets one kind of quotation marks."""
    inner = chunk[1:-1].strip()
    mark = chunk[0]
    if mark == "'" and _PROSE.fullmatch(inner):
        mark = '"'
    return f"{mark}{inner}{mark}"


def _cased(core: str, before: str, after: str, initial: bool, programming: bool) -> str:
    """Return the word in lower case, or as it is where its capitals make it another word."""
    size, lower = len(core), core.lower()
    if size == 1:
        return lower if core == "I" or (core == "A" and initial) else core
    if not core.isalpha():
        return core if core[0].isdigit() and core[-1] in "Mb" else lower  # "5M", "10Gb": units
    if core.isupper():
        return core if core in CODES or lower in SAME_WORD else lower  # "IM", "WONT": no contractions
    if core[1:].islower():
        if initial:
            return lower
        if core in NAMES:
            clear = core in CLEAR and (before in ("in", "on") or before[:1].isdigit() or after[:1].isdigit())
            return lower if clear or (after[:1].isupper() and after[1:2].islower()) else core
        if size == 2:
            return lower if core in TITLES else core
        return core if programming and core in TYPES else lower
    return core if size <= 3 or core == "LaTeX" else lower


def _respelt(word: str, before: str) -> str:
    """Return the word in the one spelling; it may become two words."""
    same = SAME_WORD.get(word)
    if same is not None:
        return same
    if word.endswith("s'"):
        return SAME_WORD.get(word[:-1], word[:-1])  # "residents' parking", "residents parking"
    if word.isalpha():
        return "US" if word == "us" and before == "the" else word
    if "-" in word:
        counted = _COUNTED.fullmatch(word)
        if counted:
            return f"{counted[1]} {' '.join(counted[2].split('-'))}"
        if word.endswith(_SPLIT_ENDINGS) and word[0] != "-":
            return " ".join(word.split("-"))
        return word
    if "." in word and word.lower() in DOTTED:
        return DOTTED[word.lower()]
    if word[0] in "$£€":
        money = _MONEY.fullmatch(word.replace(",", ""))
        if money:
            return money[1] + scaled(money[2], {"k": 1_000, "m": 1_000_000, "bn": 1_000_000_000}[money[3]])
        return word[0] + _unseparated(word[1:])
    return _unseparated(word)


def _unseparated(word: str) -> str:
    return word.replace(",", "") if "," in word and _THOUSANDS.fullmatch(word.rstrip("%")) else word


def _without_sounds(tokens: list[str]) -> list[str]:
    """Drop "um" and the like, but not the unit µm typed as "um"."""
    kept: list[str] = []
    for token in tokens:
        before = kept[-1] if kept else ""
        if token not in SOUNDS or (token == "um" and (before[:1].isdigit() or before in MEASURES)):
            kept.append(token)
    return kept or tokens


def typos(a: str, b: str, known: Collection[str]) -> bool:
    """Return whether two texts differ, in canonical form, only in words that are misspelt in one of them."""
    ours, theirs = canonical(a).split(" "), canonical(b).split(" ")
    if len(ours) != len(theirs) or ours == theirs:
        return False
    return all(x == y or _misspelt(x, y, known) for x, y in zip(ours, theirs, strict=True))


def _misspelt(x: str, y: str, known: Collection[str]) -> bool:
    if not (x.isalpha() and y.isalpha() and x.islower() and y.islower()) or x[0] != y[0]:
        return False
    if min(len(x), len(y)) < 5 or (x in known) == (y in known):
        return False
    return distance(x, y, 3) <= (2 if min(len(x), len(y)) >= 8 else 1)


def distance(x: str, y: str, limit: int) -> int:
    """Return the Damerau-Levenshtein distance (letters, neighbours swapped), or ``limit`` where it is at least that."""
    if abs(len(x) - len(y)) >= limit:
        return limit
    older: list[int] = []
    row = list(range(len(y) + 1))
    for i, left in enumerate(x, 1):
        new = [i]
        for j, right in enumerate(y, 1):
            best = min(row[j] + 1, new[j - 1] + 1, row[j - 1] + (left != right))
            if i > 1 and j > 1 and left == y[j - 2] and x[i - 2] == right:
                best = min(best, older[j - 2] + 1)
            new.append(best)
        if min(new) >= limit:
            return limit
        older, row = row, new
    return min(row[-1], limit)
