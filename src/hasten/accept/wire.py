"""A client's format: how its body becomes a request, and a reply its bytes again."""

from __future__ import annotations

import re
from typing import Any, Protocol

import msgspec

from hasten.errors import EngineStatus, HastenError, InvalidField
from hasten.trace import Trace
from hasten.types import Chunk, Reply, Request


class Encoder(Protocol):
    """Turns one stream into the client's events."""

    def chunk(self, chunk: Chunk) -> bytes:
        """Return what the client gets for this chunk; may be empty."""

    def end(self, error: HastenError | None, done: bool) -> bytes:
        """Return what is still to be sent at the end; ``done``: the engine's last event was ``[DONE]``."""


class Wire(Protocol):
    """One client-facing format."""

    endpoint: str

    def decode(self, body: bytes, trace: Trace, headers: dict[bytes, bytes], max_depth: int) -> Request:
        """Return the request; raise :class:`InvalidField` with the field's path."""

    def whole(self, request: Request, reply: Reply) -> bytes:
        """Return a whole reply's body."""

    def encoder(self, request: Request) -> Encoder:
        """Return an encoder for one stream."""

    def error(self, error: HastenError) -> bytes:
        """Return an error's body."""


# -- reading JSON with good messages --------------------------------------------------------------

_AT = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_STRINGS = re.compile(rb'"[^"]*"?')
_INNERMOST = re.compile(rb"\{\}|\[\]")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))


def read(decoder: msgspec.json.Decoder[Any], body: bytes, max_depth: int) -> Any:
    """Decode ``body``; raise :class:`InvalidField` naming the path of what is wrong."""
    if body.count(b"[") + body.count(b"{") > max_depth:
        check_depth(body, max_depth)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise invalid(exc) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidField(f"the body is not valid JSON: {exc}") from None
    except RecursionError:
        raise InvalidField("the body is nested too deeply") from None


def invalid(exc: msgspec.ValidationError) -> InvalidField:
    """Return our error for msgspec's: the path first, as the client wrote it."""
    text = str(exc)
    at = _AT.search(text)
    path = at.group(1) if at else ""
    text = _AT.sub("", text).replace("`", "")
    missing = re.match(r"Object missing required field (\S+)$", text)
    if missing:
        path = f"{path}.{missing.group(1)}" if path else missing.group(1)
        return InvalidField(f"{path}: this field is required", path)
    text = text.replace("Expected", "expected")
    return InvalidField(f"{path or 'the body'}: {text}", path or None)


def depth(body: bytes, limit: int) -> int:
    """Return how deep the arrays and objects of ``body`` are nested, ``limit + 1`` at the most.

    Works on the structure alone: escaped quotes and all other bytes are deleted in C, then the strings, then the
    innermost pairs, layer by layer.
    """
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    structure = _STRINGS.sub(b"", unescaped.translate(None, _NOT_STRUCTURE))
    for level in range(limit + 1):
        if not structure:
            return level
        shorter = _INNERMOST.sub(b"", structure)
        if len(shorter) == len(structure):
            return level + 1  # unbalanced: the decoder will say so
        structure = shorter
    return limit + 1


def check_depth(body: bytes, limit: int) -> None:
    """Raise :class:`InvalidField`, with the top-level field, if ``body`` is nested deeper than ``limit``."""
    if depth(body, limit) <= limit:
        return
    field = None
    try:
        for name, raw in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items():
            if depth(bytes(raw), limit) >= limit:
                field = name
                break
    except (msgspec.DecodeError, RecursionError):
        pass
    raise InvalidField(f"{field or 'the body'}: nested more than {limit} levels deep", field)


# -- errors ---------------------------------------------------------------------------------------


def openai_error(error: HastenError) -> bytes:
    """Return OpenAI's error envelope; an engine's own, if it sent one."""
    if isinstance(error, EngineStatus) and error.body:
        try:
            said = msgspec.json.decode(error.body)
        except (msgspec.DecodeError, RecursionError):
            said = None
        if isinstance(said, dict) and isinstance(said.get("error"), dict | str):
            return error.body
        if isinstance(said, dict) and isinstance(said.get("message"), str):  # vLLM's older flat form
            return msgspec.json.encode({"error": said})
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )
