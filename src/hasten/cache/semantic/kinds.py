"""Which kind of thing a word names, and which thing of that kind."""

from __future__ import annotations

from collections.abc import Sequence

from hasten.cache.semantic.places import BRANDS, PLACES
from hasten.cache.semantic.siblings import THINGS


def _tables() -> tuple[dict[str, list[tuple[str, str]]], frozenset[str]]:
    table: dict[str, list[tuple[str, str]]] = {}
    heads: set[str] = set()
    for kinds, plural in ((PLACES, False), (BRANDS, False), (THINGS, True)):
        for kind, text in kinds.items():
            for group in text.replace("\n", " ").split(","):
                words = [word.strip() for word in group.split("=")]
                for word in words:
                    for form in {word, f"{word}s"} if plural and not word.endswith("s") else {word}:
                        if all(known != kind for known, _ in table.get(form, ())):
                            table.setdefault(form, []).append((kind, words[0]))
                    if "_" in word:
                        heads.add(word.split("_")[0])
    return table, frozenset(heads)


KINDS, HEADS = _tables()


def things(tokens: Sequence[str]) -> dict[str, set[str]]:
    """Return the things that tokens name, by kind. Phrases of two or three words come before single words."""
    found: dict[str, set[str]] = {}
    at, count = 0, len(tokens)
    while at < count:
        token = tokens[at]
        used = 1
        entries = None
        if token in HEADS:
            for length in (3, 2):
                entries = KINDS.get("_".join(tokens[at : at + length])) if at + length <= count else None
                if entries:
                    used = length
                    break
        if entries is None:
            entries = KINDS.get(token)
        if entries:
            for kind, thing in entries:
                found.setdefault(kind, set()).add(thing)
        at += used
    return found
