"""Which tier a conversation is on: it stays there unless it must go up.

A conversation is known by a digest of its first turns. What is kept is a fixed table that all workers of one machine
map, so that it does not matter which of them gets the next turn, and nothing grows.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from hasten.fields import ChatFields, Message
from hasten.route.table import mapped
from hasten.types import Request

SLOTS = 1 << 16  # 1 MiB; a busy machine's conversations of an hour
WAYS = 4  # places that one conversation may have; the oldest of them gives way
_SLOT = Struct("<QIf")  # digest, seconds of the clock, 1 + tier (0: empty)

#: What is said only to go on: it has no difficulty of its own.
_GO_ON = frozenset(
    [
        "yes",
        "yeah",
        "yep",
        "ok",
        "okay",
        "sure",
        "go",
        "on",
        "continue",
        "please",
        "do",
        "it",
        "no",
        "nope",
        "thanks",
        "thank",
        "you",
        "great",
        "good",
        "right",
        "correct",
        "exactly",
        "more",
        "next",
        "and",
        "then",
        "proceed",
        "ahead",
        "again",
        "that",
        "this",
        "the",
        "first",
        "second",
        "third",
        "last",
        "one",
        "a",
        "b",
        "c",
        "d",
        "both",
        "fine",
        "cool",
        "ja",
        "nein",
        "weiter",
        "bitte",
        "oui",
        "non",
        "continuez",
        "merci",
        "si",
        "sí",
        "sigue",
        "gracias",
    ]
)
SHORT = 6  # words


class Talk(NamedTuple):
    """A conversation as a request shows it.

    ``first``: its digest by the first user turn; ``early``: by the first turns up to the first answer, empty before
    there is one. ``texts``: what the user said, the latest last. ``shown``: instructions by the system, cut.
    """

    first: bytes
    early: bytes
    texts: list[str]

    @property
    def goes_on(self) -> bool:
        """Whether the last turn only says to go on."""
        words = self.texts[-1].lower().replace(",", " ").strip(" .!?\n").split() if self.texts else []
        return len(words) <= SHORT and all(word.strip(".!?'\"") in _GO_ON for word in words)


def talk_of(request: Request) -> Talk:
    """Return the conversation in ``request``; completions and embeddings are one turn."""
    fields = request.fields
    head = _hash(f"{request.trace.tenant}\0{request.model}")
    if not isinstance(fields, ChatFields):
        given = getattr(fields, "prompt", None) or getattr(fields, "input", None)
        text = given if isinstance(given, str) else " ".join(p for p in given or () if isinstance(p, str))
        head.update(_bytes(f"\0{text}"))
        return Talk(head.digest(), b"", [text])
    texts: list[str] = []
    first = early = b""
    for message in fields.messages:
        role = message.role
        said = text_of(message)
        if not early:
            head.update(_bytes(f"\0{role}\0{said}"))
        if role == "user":
            if not first:
                first = head.digest()
            if said:
                texts.append(said)
        elif role == "assistant" and first and not early:
            early = head.digest()
    return Talk(first or head.digest(), early, texts)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _hash(text: str) -> blake2b:
    return blake2b(_bytes(text), digest_size=16)


def text_of(message: Message) -> str:
    """Return the text of a message; images and other parts are left out."""
    content = message.content
    if isinstance(content, str):
        return content
    return "\n".join(
        part["text"]
        for part in content or ()
        if part.get("type") == "text" and isinstance(part.get("text"), str)
    )


class Conversations:
    """Digest to tier, for ``ttl`` seconds. ``path``: the file that workers share; ``None``: this worker's own."""

    def __init__(self, ttl: float, clock: Callable[[], float], path: Path | None = None) -> None:
        self._ttl = ttl
        self._clock = clock
        self._map = mapped(SLOTS * _SLOT.size, path)

    def get(self, digest: bytes) -> int | None:
        """Return the tier that the conversation is on, ``None`` for an unknown one."""
        wanted = int.from_bytes(digest[:8], "little")
        for at in self._places(wanted):
            found, when, tier = _SLOT.unpack_from(self._map, at)
            if found == wanted and tier and self._clock() - when <= self._ttl:
                return int(tier) - 1
        return None

    def put(self, digest: bytes, tier: int) -> None:
        """Note the tier of a conversation. Two workers at one place at once: one of them is forgotten."""
        wanted = int.from_bytes(digest[:8], "little")
        oldest, place = float("inf"), -1
        for at in self._places(wanted):
            found, when, _ = _SLOT.unpack_from(self._map, at)
            if found == wanted:
                place = at
                break
            if when < oldest:
                oldest, place = when, at
        _SLOT.pack_into(self._map, place, wanted, int(self._clock()), float(tier + 1))

    def _places(self, wanted: int) -> range:
        bucket = wanted % (SLOTS // WAYS) * WAYS * _SLOT.size
        return range(bucket, bucket + WAYS * _SLOT.size, _SLOT.size)

    def __repr__(self) -> str:
        return f"<Conversations {SLOTS} slots, {self._ttl:g} s>"
