"""An engine's reply in Anthropic's Messages format: content blocks, events, usage and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from hasten.errors import EngineStatus, HastenError
from hasten.trace import Trace
from hasten.types import Chunk, Delta, Event, Request

Block = dict[str, Any]

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def function_of(call: Block) -> Block:
    """Return the function of a tool call; an engine may send anything in its place."""
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def arguments_of(text: object) -> Any:
    """Return a tool call's arguments as an object; as ``{"_raw": text}`` when the model wrote no JSON."""
    if isinstance(text, dict):
        return text
    try:
        made = msgspec.json.decode(str(text or "{}"))
    except (msgspec.DecodeError, RecursionError):
        return {"_raw": text}
    return made if isinstance(made, dict) else {"_raw": text}


def usage_of(trace: Trace) -> dict[str, int]:
    """Return Anthropic's counts, which tell cached tokens apart from the others."""
    cached = trace.cached_tokens or 0
    return {
        "input_tokens": max(0, (trace.input_tokens or 0) - cached),
        "output_tokens": trace.output_tokens or 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    }


def error_of(error: HastenError) -> Block:
    """Return Anthropic's envelope around what the engine or the gateway says."""
    message = error.message
    if isinstance(error, EngineStatus) and error.body:
        try:
            said = msgspec.json.decode(error.body)
            inner = said.get("error", said) if isinstance(said, dict) else None
            text = inner.get("message") if isinstance(inner, dict) else inner
            message = text if isinstance(text, str) else message
        except (msgspec.DecodeError, RecursionError):
            pass
    kind = _ERROR_TYPES.get(error.status) or ("api_error" if error.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _event(name: str, **data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"type": name, **data}))


class AnthropicEncoder:
    """Turns a stream of chat completion chunks into Anthropic's events; the first choice only."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._started = False
        self._index = -1
        self._open = ""  # the kind of the block that is open: "text", "thinking", "tool_use 0"
        self._stop_reason = "end_turn"

    def chunk(self, chunk: Chunk) -> bytes:
        event = chunk.event
        if event is None:
            return b"" if chunk.done else b'event: ping\ndata: {"type": "ping"}\n\n'
        out = [] if self._started else [self._start(event)]
        for choice in event.choices or ():
            if choice.index != 0:
                continue
            if choice.delta is not None:
                out += self._delta(choice.delta)
            if choice.finish_reason is not None:
                self._stop_reason = STOP_REASONS.get(choice.finish_reason, "end_turn")
        return b"".join(out)

    def end(self, error: HastenError | None, done: bool) -> bytes:
        if error is not None:
            return b"event: error\ndata: " + msgspec.json.encode(error_of(error)) + b"\n\n"
        out = [] if self._started else [self._start(Event())]
        out += self._close()
        stop = {"stop_reason": self._stop_reason, "stop_sequence": None}
        out.append(_event("message_delta", delta=stop, usage=usage_of(self._request.trace)))
        out.append(_event("message_stop"))
        return b"".join(out)

    def _start(self, event: Event) -> bytes:
        self._started = True
        if event.usage is not None:
            self._request.trace.saw_usage(event.usage)
        message: Block = {
            "id": f"msg_{self._request.trace.id}",
            "type": "message",
            "role": "assistant",
            "model": self._request.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage_of(self._request.trace), "output_tokens": 0},
        }
        return _event("message_start", message=message)

    def _delta(self, delta: Delta) -> Iterator[bytes]:
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            yield from self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            yield self._piece({"type": "thinking_delta", "thinking": thought})
        text = delta.content or delta.refusal
        if text:
            yield from self._block("text", {"type": "text", "text": ""})
            yield self._piece({"type": "text_delta", "text": text})
        for call in delta.tool_calls or ():
            function = function_of(call)
            start: Block = {
                "type": "tool_use",
                "id": call.get("id") or f"toolu_{self._request.trace.id}_{call.get('index', 0)}",
                "name": function.get("name") or "",
                "input": {},
            }
            yield from self._block(f"tool_use {call.get('index', 0)}", start)
            arguments = function.get("arguments")
            if arguments:
                text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
                yield self._piece({"type": "input_json_delta", "partial_json": text})

    def _block(self, kind: str, start: Block) -> Iterator[bytes]:
        """Open a block of ``kind``, closing another one, unless it is open already."""
        if self._open != kind:
            yield from self._close()
            self._open = kind
            self._index += 1
            yield _event("content_block_start", index=self._index, content_block=start)

    def _piece(self, delta: Block) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> Iterator[bytes]:
        if self._open:
            self._open = ""
            yield _event("content_block_stop", index=self._index)
