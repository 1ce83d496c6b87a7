"""Whether an answer is in another language or script than its question, where nothing explains it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

READ = 600  # characters of each text
LETTERS = 24  # fewer say nothing

#: The most frequent words, without those that two of the languages share.
_WORDS: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "en": "the of and to is that for it with are you this be have what how which there was they from would",
        "de": "der und ist nicht das mit ein eine auf dem sich auch es ich sie wie wird für von den zu werden sind",
        "fr": "le les des est et une dans pour que qui pas sur avec sont vous ce cette nous il elle du au comment",
        "es": "el los las es y una por con para del se como más pero sus este cuál qué cómo está son hay",
        "it": "il gli è che di una per con non sono della dei nel come più anche questo quale del alla",
        "pt": "os as é uma não para com do da dos das em como mais são você isto qual ao pela",
    }.items()
}
_EXPLAINS = re.compile(
    r"translat|übersetz|tradu|翻译|翻訳|перев|language|sprache|langue|idioma|lingua|english|german|french|spanish|italian|"
    r"portuguese|chinese|japanese|korean|russian|arabic|hindi|greek|hebrew|latin|cyrillic|kanji|emoji|unicode|"
    r"deutsch|englisch|français|anglais|inglés|español|inglese|inglês|英语|英文|中文|日本語|英語|английск|русск",
    re.I,
)
_WORD = re.compile(r"[^\W\d_]+")


def mismatch(question: str, answer: str) -> str | None:
    """Return ``"language"`` where the answer's differs from the question's, else ``None``."""
    if "```" in answer or _EXPLAINS.search(question):
        return None
    asked, said = question[-READ:], answer[:READ]
    first, second = script(asked), script(said)
    if first is None or second is None:
        return None
    if first == second == "LATIN":
        one, other = language(asked), language(said)
        return "language" if one is not None and other is not None and one != other else None
    return "language" if first != second else None


def script(text: str) -> str | None:
    """Return the script of nearly all letters, as Unicode names it (Han and kana are one), ``None`` if unclear."""
    letters = [c for c in text if c.isalpha()]
    if len(letters) < LETTERS and not (len(letters) >= 6 and ord(letters[0]) > 0x2E80):
        return None
    found = Counter(_script_of(c) for c in letters)
    name, count = found.most_common(1)[0]
    return name if count >= 0.8 * len(letters) else None


def _script_of(letter: str) -> str:
    if letter < "ɐ":
        return "LATIN"
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA") else name


def language(text: str) -> str | None:
    """Return which of the known languages a text in Latin script is surely in."""
    words = _WORD.findall(text.lower())
    hits = Counter({name: sum(map(known.__contains__, words)) for name, known in _WORDS.items()})
    (name, most), (_, next_most) = hits.most_common(2)
    return name if most >= 4 and most >= 3 * next_most and most >= 0.12 * len(words) else None
