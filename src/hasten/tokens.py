"""How many tokens a text is, where an engine does not say.

An estimate that does not depend on the way a text came: the same text is the same number, streamed or whole. Models
cut text differently, so it is calibrated on the median of several vocabularies (``bench/token_estimate.py``, which
also says how far off it is), and linear in what is cheap to count in UTF-8:

::

    tokens = sum(weight x count)    over words, letters, digits, punctuation, blanks, characters of other scripts
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from hasten.fields import ChatFields, CompletionFields, EmbeddingFields
from hasten.trace import Trace
from hasten.types import Event, Request

MESSAGE = 4  # tokens that a chat's template puts around a message
REPLY = 3  # ... and before the answer
CALL = 8  # ... and around a tool's call
IMAGE = 1000  # an image part's tokens, whatever its bytes are

#: A text is weighed in blocks of so many characters: those that begin it as a whole, of later ones a part.
BLOCK, WHOLE, PART = 8192, 2, 512
PENDING = 8 * 1024  # bytes of events that are kept as they came, most often for nothing

_LOWER, _UPPER, _DIGITS = (
    b"abcdefghijklmnopqrstuvwxyz",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    b"0123456789",
)
_MARKS = bytes(byte for byte in range(33, 127) if not chr(byte).isalnum())
#: First bytes of characters in UTF-8, by what they mostly are.
SCRIPTS = {
    "latin": range(0xC2, 0xC4),
    "latin_extended": range(0xC4, 0xCE),
    "greek": range(0xCE, 0xD0),
    "cyrillic": range(0xD0, 0xD5),
    "hebrew": range(0xD5, 0xD8),
    "arabic": range(0xD8, 0xE0),
    "indic": range(0xE0, 0xE1),
    "vietnamese": range(0xE1, 0xE2),
    "symbols": range(0xE2, 0xE3),
    "kana": range(0xE3, 0xE4),
    "han": range(0xE4, 0xEA),
    "hangul": range(0xEA, 0xEE),
    "full_width": range(0xEE, 0xF0),
    "emoji": range(0xF0, 0xF8),
}


def _all_but(kept: bytes) -> bytes:
    return bytes(set(range(256)) - set(kept))


def _runs(marked: bytes) -> bytes:
    """Return a table for :meth:`bytes.translate`: ``marked`` become ``x``, all others blanks."""
    return bytes(ord("x") if byte in marked else ord(" ") for byte in range(256))


_NO_LETTERS, _NO_UPPER, _NO_MARKS = _all_but(_LOWER + _UPPER), _all_but(_UPPER), _all_but(_MARKS)
_WORDS, _NUMBERS, _MARKED = _runs(_LOWER + _UPPER), _runs(_DIGITS), _runs(_MARKS)
#: A letter for each script, which takes the place of its characters; of others nothing is left.
_LEADS = bytes(
    next((ord("a") + i for i, leads in enumerate(SCRIPTS.values()) if byte in leads), 0)
    for byte in range(256)
)
_NO_LEADS = bytes(byte for byte in range(256) if not _LEADS[byte])
_SCRIPTS = tuple(bytes([ord("a") + i]) for i in range(len(SCRIPTS)))

#: What :func:`features` counts, with its weight.
WEIGHTS = {
    "words": 0.100,
    "letters": 0.131,
    "capitals": 0.185,
    "numbers": 1.480,
    "four_digits": 0.500,
    "marks": 0.251,
    "runs_of_marks": 0.563,
    "lines": 0.333,
    "blanks": 0.381,
    "double_blanks": -0.688,
    "latin": 0.624,
    "latin_extended": 1.190,
    "greek": 0.475,
    "cyrillic": 0.305,
    "hebrew": 0.461,
    "arabic": 0.360,
    "indic": 0.537,
    "vietnamese": 0.300,
    "symbols": 2.290,
    "kana": 0.603,
    "han": 0.659,
    "hangul": 0.655,
    "full_width": 1.085,
    "emoji": 3.064,
}
_WEIGHTS = tuple(WEIGHTS.values())


def features(text: str) -> list[int]:
    """Return the counts that :data:`WEIGHTS` names. A pair is counted where a run begins, so runs are counted once."""
    data = b" " + text.encode("utf-8", "surrogatepass")
    numbers = data.translate(_NUMBERS)
    found = [
        data.translate(_WORDS).count(b" x"),
        len(data.translate(None, _NO_LETTERS)),
        len(data.translate(None, _NO_UPPER)),
        numbers.count(b" x"),
        numbers.count(b"xxxx"),
        len(data.translate(None, _NO_MARKS)),
        data.translate(_MARKED).count(b" x"),
        data.count(b"\n"),
        data.count(b" ") - 1,
        data.count(b"  "),
    ]
    if not text.isascii():
        scripts = data.translate(_LEADS, _NO_LEADS)
        found += [scripts.count(script) for script in _SCRIPTS]
    return found


def count(text: str) -> int:
    """Return about how many tokens ``text`` is; at least one unless it is empty."""
    return _Text(text).tokens


def _weigh(text: str) -> float:
    return sum([weight * n for weight, n in zip(_WEIGHTS, features(text), strict=False)])


class _Text:
    """A text that comes in pieces; they make no difference, as it is weighed in blocks. Holds a block at most."""

    __slots__ = ("_blocks", "_pieces", "_size", "_weight")

    def __init__(self, text: str = "") -> None:
        self._blocks = 0  # that were weighed
        self._weight = 0.0
        self._pieces: list[str] = []  # not weighed yet
        self._size = 0  # of them
        self.add(text)

    def add(self, text: str) -> None:
        """Go on with ``text``."""
        self._pieces.append(text)
        self._size += len(text)
        if self._size < BLOCK:
            return
        text = "".join(self._pieces)
        for start in range(0, self._size - BLOCK + 1, BLOCK):
            looked_at = BLOCK if self._blocks < WHOLE else PART
            self._weight += _weigh(text[start : start + looked_at]) * BLOCK / looked_at
            self._blocks += 1
        self._size %= BLOCK
        self._pieces = [text[len(text) - self._size :]]

    @property
    def tokens(self) -> int:
        """About how many they are so far."""
        if not self._size and not self._blocks:
            return 0
        return max(1, round(self._weight + _weigh("".join(self._pieces))))


# -- of a request


def prompt(request: Request) -> int:
    """Return about how many tokens a request's prompt is: its texts, its tools, and what the template adds."""
    fields = request.fields
    if isinstance(fields, ChatFields):
        texts: list[str] = []
        more = REPLY + MESSAGE * len(fields.messages)
        for message in fields.messages:
            if isinstance(message.content, str):
                texts.append(message.content)
            for part in message.content if isinstance(message.content, list) else ():
                text = part.get("text")
                if isinstance(text, str):
                    texts.append(text)
                elif part.get("type") in ("image_url", "image", "input_image"):
                    more += IMAGE
        if fields.tools:
            texts.append(msgspec.json.encode(fields.tools).decode())
        if b'"tool_calls"' in request.body:
            texts += _called(request.body)
        return more + count("\n".join(texts))
    if isinstance(fields, CompletionFields):
        return _inputs(fields.prompt)
    return _inputs(fields.input) if isinstance(fields, EmbeddingFields) else 0


class _Message(msgspec.Struct):
    tool_calls: Any = None


class _Chat(msgspec.Struct):
    messages: list[_Message]


_decode_chat = msgspec.json.Decoder(_Chat).decode


def _called(body: bytes) -> list[str]:
    """Return the calls of tools in the messages of a body that was read before."""
    calls = [message.tool_calls for message in _decode_chat(body).messages if message.tool_calls]
    return [msgspec.json.encode(made).decode() for made in calls]


def _inputs(given: str | Iterable[str | int | list[int]]) -> int:
    """Return the tokens of texts, or of what is tokens already."""
    if isinstance(given, str):
        return count(given)
    total = 0
    for one in given:
        if isinstance(one, str):
            total += count(one)
        else:
            total += len(one) if isinstance(one, list) else 1
    return total


# -- of an answer


class Said:
    """What an answer says, in whatever pieces it came: each choice's text, thoughts, refusal and calls for themselves.

    Events are heard when the tokens are asked for, which most often they are not.
    """

    __slots__ = ("_calls", "_events", "_pending", "_texts")

    def __init__(self, events: list[Event | None] | None = None) -> None:
        self._events: list[Event | None] = [] if events is None else events
        self._pending = 0  # bytes that they came in
        self._texts: dict[tuple[object, ...], _Text] = {}
        self._calls: set[tuple[int, int]] = set()

    def note(self, event: Event, size: int) -> None:
        """Take one more event of a stream; ``size``: the bytes it came in."""
        self._events.append(event)
        self._pending += size
        if self._pending > PENDING:
            self._hear()

    def __bool__(self) -> bool:
        return bool(self._events or self._texts)

    def _hear(self) -> None:
        first: list[str] = []  # of the first choice its text: nearly all there ever is
        for event in self._events:
            if event is None or not event.choices:
                continue
            for choice in event.choices:
                said = choice.delta or choice.message
                text = choice.text if said is None else said.content
                if text:
                    if choice.index == 0:
                        first.append(text)
                    else:
                        self._add((choice.index, "text"), text)
                if said is not None:
                    if said.reasoning_content or said.reasoning or said.refusal:
                        self._add((choice.index, "thought"), said.reasoning_content or said.reasoning)
                        self._add((choice.index, "refusal"), said.refusal)
                    if said.tool_calls:
                        self._called(choice.index, said.tool_calls)
        self._add((0, "text"), "".join(first))
        self._events.clear()
        self._pending = 0

    def _called(self, index: int, calls: list[dict[str, Any]]) -> None:
        for i, call in enumerate(calls):
            at, function = call.get("index", i), call.get("function")
            if isinstance(function, dict) and isinstance(at, int):
                self._calls.add((index, at))
                for name in ("name", "arguments"):
                    self._add((index, name, at), function.get(name))

    def _add(self, place: tuple[object, ...], text: object) -> None:
        if not text:
            return
        if not isinstance(text, str):  # a call's arguments as an object
            text = msgspec.json.encode(text).decode()
        have = self._texts.get(place)
        if have is None:
            self._texts[place] = _Text(text)
        else:
            have.add(text)

    @property
    def tokens(self) -> int:
        """About how many tokens it is."""
        self._hear()
        return sum([text.tokens for text in self._texts.values()]) + CALL * len(self._calls)

    def __repr__(self) -> str:
        return f"<Said {len(self._events)} events, {len(self._texts)} texts>"


def fill(trace: Trace, request: Request, said: Said) -> None:
    """Note on ``trace`` what the engine did not count of an answer that began."""
    if trace.input_tokens is None:
        trace.input_tokens = prompt(request)
        trace.estimated = True
    if trace.output_tokens is None and request.endpoint != "embeddings":
        trace.output_tokens = said.tokens
        trace.estimated = True
