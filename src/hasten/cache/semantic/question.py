"""A question that is looked up, and what was found."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from hasten.cache.entry import Entry
from hasten.cache.key import canonical_key
from hasten.cache.semantic import canonical as forms

if TYPE_CHECKING:
    from hasten.cache.store.base import Vector

canonical = lru_cache(8192)(forms.canonical)  # the same candidates are met again and again


class Question:
    """A question that may be answered by another one's answer.

    ``form``: the key of its canonical form; ``new``: nothing of that was stored. ``met``: others of its scope are
    stored. ``spent``: seconds of the models' thread.
    """

    __slots__ = ("canonical", "form", "key", "met", "new", "scope", "spent", "text", "vector")

    def __init__(self, key: bytes, scope: bytes, text: str) -> None:
        self.key = key
        self.scope = scope
        self.text = text
        self.canonical = canonical(text)
        self.form = canonical_key(scope, self.canonical)
        self.met = False
        self.spent = 0.0
        self.vector: Vector | None = None
        self.new = False


class Finding(NamedTuple):
    """What a look-up found. ``entry``: the best candidate; ``serve``: it may be; ``held``: it would be, but for the
    holdback. ``score``: the verifier's, ``None`` for an equal canonical form."""

    entry: Entry | None
    serve: bool
    held: bool
    why: str
    score: float | None = None
