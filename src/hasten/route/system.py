"""A system prompt put before a chat's messages. All else of the body stays the bytes that it was."""

from __future__ import annotations

from typing import Literal

import msgspec

from hasten.fields import ChatFields, Message
from hasten.types import Request

Mode = Literal["if_missing", "prepend", "replace"]

_ROLES = ("system", "developer")
_encode = msgspec.json.Encoder().encode
_decode_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_messages = msgspec.json.Decoder(list[Message]).decode


def put_system(request: Request, text: str, mode: Mode) -> None:
    """Put ``text`` before the messages of a chat, in ``body`` and ``fields``.

    ``if_missing``: only if there is no system prompt. ``prepend``: before the client's, in one message with it, since
    many chat templates take one only. ``replace``: instead of the client's.
    """
    fields = request.fields
    assert isinstance(fields, ChatFields)
    ours = [message.role in _ROLES for message in fields.messages]
    if mode == "if_missing" and any(ours):
        return
    top = _decode_top(request.body)
    messages = _decode_list(top["messages"])
    if mode == "replace":
        messages = [raw for raw, system in zip(messages, ours, strict=True) if not system]
    if mode == "prepend" and ours and ours[0]:
        messages[0] = _joined(text, fields.messages[0], messages[0])
    else:
        messages.insert(0, msgspec.Raw(_encode({"role": "system", "content": text})))
    changed = _encode(messages)
    top["messages"] = msgspec.Raw(changed)
    request.body = _encode(top)
    request.fields = msgspec.structs.replace(fields, messages=_decode_messages(changed))


def _joined(text: str, message: Message, raw: msgspec.Raw) -> msgspec.Raw:
    """Return a system message with ``text`` before its own, which may be a text, parts, or nothing."""
    top = _decode_top(raw)
    content: str | list[object]
    if isinstance(message.content, list):
        content = [{"type": "text", "text": text}, *_decode_list(top["content"])]
    else:
        content = f"{text}\n\n{message.content}" if message.content else text
    top["content"] = msgspec.Raw(_encode(content))
    return msgspec.Raw(_encode(top))
