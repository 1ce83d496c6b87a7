"""What the scripted upstream answers."""

from __future__ import annotations

from typing import Any

import msgspec

WORDS = ("The", " capital", " of", " France", " is", " Paris", ".")


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What the upstream does with one request; times in seconds.

    ``ttft``: before the first event, or before a whole answer. ``itl``: between events. ``status``, ``headers``,
    ``body``: of an answer that is not a stream (``body`` also of an error). ``events``: data of the events, instead of
    those made of ``tokens``. ``raw``: bytes to send instead of any answer. ``reset_after``: reset the connection
    after so many events (0: before the status line; with ``hang`` stay silent instead). ``split``: bytes a write.
    ``usage``: whether tokens are counted, in a stream where that was asked for. ``refuses``: a status for requests
    that ask, with ``refusal`` as the error's message.
    ``timings``: what llama.cpp's server tells of its work, at the end of an answer.
    """

    tokens: tuple[str, ...] = WORDS
    repeat: int = 1
    ttft: float = 0.0
    itl: float = 0.0
    status: int = 200
    headers: dict[str, str] = {}
    body: str | None = None
    events: tuple[str, ...] | None = None
    raw: bytes | None = None
    reset_after: int | None = None
    hang: bool = False
    split: int = 0
    done: bool = True
    usage: bool = True
    refuses: int = 0
    refusal: str = "stream_options: Extra inputs are not permitted"
    close: bool = False
    timings: dict[str, float] | None = None


def chat_chunk(text: str | None, finish: str | None = None) -> dict[str, Any]:
    """Return a chat completion chunk."""
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "scripted",
        "choices": [
            {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
        ],
    }


def usage(script: Script) -> dict[str, int]:
    """Return the token counts of ``script``'s answer."""
    count = len(script.tokens) * script.repeat
    return {"prompt_tokens": 10, "completion_tokens": count, "total_tokens": 10 + count}


def events(script: Script, fields: dict[str, Any]) -> list[str]:
    """Return the data of a streamed answer's events."""
    if script.events is not None:
        return [*script.events]
    text = structured(fields)
    pieces = script.tokens * script.repeat if text is None else (text,)
    made = [msgspec.json.encode(chat_chunk(piece)).decode() for piece in pieces]
    last = chat_chunk(None, "stop") | ({} if script.timings is None else {"timings": script.timings})
    made.append(msgspec.json.encode(last).decode())
    if script.usage and (fields.get("stream_options") or {}).get("include_usage"):
        counts = {**chat_chunk(None), "choices": [], "usage": usage(script)}
        made.append(msgspec.json.encode(counts).decode())
    if script.done:
        made.append("[DONE]")
    return made


def whole(script: Script, fields: dict[str, Any]) -> str:
    """Return the body of an answer that is not streamed."""
    text = structured(fields) or "".join(script.tokens * script.repeat)
    made: dict[str, Any] = {
        "id": "scripted",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "scripted",
    }
    if "input" in fields:
        inputs = fields["input"] if isinstance(fields["input"], list) else [fields["input"]]
        data = [{"object": "embedding", "index": i, "embedding": [0.6, 0.8]} for i in range(len(inputs))]
        made = {"object": "list", "model": "scripted", "data": data}
    elif "prompt" in fields:
        made["object"] = "text_completion"
        made["choices"] = [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}]
    elif (call := forced_call(fields)) is not None:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        made["choices"] = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    else:
        message = {"role": "assistant", "content": text}
        made["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    if script.usage:
        made["usage"] = usage(script)
    if script.timings is not None:
        made["timings"] = script.timings
    return msgspec.json.encode(made).decode()


def forced_call(fields: dict[str, Any]) -> dict[str, Any] | None:
    """Return a call of the function that ``tool_choice`` names, with the smallest arguments that its schema allows."""
    choice = fields.get("tool_choice")
    if not isinstance(choice, dict):
        return None
    name = choice["function"]["name"]
    schema = next(
        t["function"].get("parameters", {}) for t in fields["tools"] if t["function"]["name"] == name
    )
    arguments = msgspec.json.encode(instance(schema)).decode()
    return {"id": "call_scripted", "type": "function", "function": {"name": name, "arguments": arguments}}


def structured(fields: dict[str, Any]) -> str | None:
    """Return JSON where ``response_format`` asks for it."""
    wanted = fields.get("response_format") or {}
    if wanted.get("type") not in ("json_object", "json_schema"):
        return None
    return msgspec.json.encode(instance((wanted.get("json_schema") or {}).get("schema") or {})).decode()


def instance(schema: dict[str, Any]) -> Any:
    """Return a small value that satisfies ``schema`` (type, const, enum, properties, items)."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "object"):
        case "object":
            return {name: instance(inner) for name, inner in (schema.get("properties") or {}).items()}
        case "array":
            return [instance(schema.get("items") or {})] * int(schema.get("minItems", 0))
        case "string":
            return "scripted"
        case "boolean":
            return True
        case "null":
            return None
    return schema.get("minimum", 1)
