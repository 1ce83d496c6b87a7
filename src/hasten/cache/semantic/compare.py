"""Whether two answers say the same, as far as that can be told without asking anybody.

Equal texts say the same; other numbers, or a yes against a no, do not; then the embeddings' cosine decides where it is
clear. What is between stays open and counts for nothing.
"""

from __future__ import annotations

import re

import msgspec

SAME = 0.90  # cosine from which two answers count as the same
DIFFERENT = 0.60  # and below which as different
SHORT = 12  # letters: "Yes." is right for many questions
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"\w+")
_YES, _NO = frozenset(("yes", "yeah", "correct", "true")), frozenset(("no", "not", "incorrect", "false"))


def answer_text(body: bytes, streamed: bool) -> str:
    """Return the text of a stored answer's choices; empty if it has none."""
    datas = [body]
    if streamed:
        lines = (line for line in body.split(b"\n") if line.startswith(b"data:"))
        datas = [data for line in lines if (data := line[5:].strip()).startswith(b"{")]
    parts = []
    for data in datas:
        try:
            choices = msgspec.json.decode(data).get("choices") or ()
        except (msgspec.DecodeError, AttributeError):
            return ""
        for choice in choices if isinstance(choices, list) else ():
            said = choice.get("message") or choice.get("delta") or choice if isinstance(choice, dict) else ()
            if isinstance(said, dict):
                parts.append(said.get("content") or said.get("text"))
    return "".join(part for part in parts if isinstance(part, str)).strip()


def same_answer(a: str, b: str) -> bool | None:
    """Return whether two answers are the same by their letters; ``None`` if only their meaning can tell."""
    words_a, words_b = _WORD.findall(a.lower()), _WORD.findall(b.lower())
    if words_a == words_b:
        return True if len("".join(words_a)) >= SHORT else None
    if sorted(_NUMBER.findall(a)) != sorted(_NUMBER.findall(b)) and max(len(words_a), len(words_b)) < 60:
        return False
    first = words_a[:1] + words_b[:1]
    if len(first) == 2 and ((first[0] in _YES and first[1] in _NO) or (first[0] in _NO and first[1] in _YES)):
        return False
    return None


def by_meaning(similarity: float) -> bool | None:
    """Return what the cosine of two answers' embeddings says, ``None`` where it says nothing."""
    if similarity >= SAME:
        return True
    return False if similarity < DIFFERENT else None
