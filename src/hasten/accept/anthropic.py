"""Anthropic's Messages format, translated to and from the gateway's own (OpenAI's chat completions).

What the translation knows: text, system prompts, images, tools and their results, thinking, usage, errors, and all of
these streamed. Fields that it does not know go to the engine as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from hasten.accept.openai import ChatFields
from hasten.accept.wire import read
from hasten.errors import EngineProtocol, EngineStatus, HastenError, InvalidField
from hasten.trace import Trace
from hasten.types import Chunk, Delta, Event, Fields, Reply, Request, Usage

Block = dict[str, Any]

_STOP_REASONS = {
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


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class _Tool(msgspec.Struct):
    name: str
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class _ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class MessagesFields(Fields, kw_only=True):
    """The known fields of a Messages request."""

    max_tokens: int
    messages: list[_Message]
    system: str | list[Block] | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    metadata: dict[str, Any] | None = None


_RENAMED = ("system", "stop_sequences", "messages", "tools", "tool_choice", "metadata", "thinking")
_decoder = msgspec.json.Decoder(MessagesFields)
_top_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_chat_decoder = msgspec.json.Decoder(ChatFields)


class AnthropicWire:
    """``/v1/messages``."""

    endpoint = "chat"

    def decode(self, body: bytes, trace: Trace, headers: dict[bytes, bytes], max_depth: int) -> Request:
        fields: MessagesFields = read(_decoder, body, max_depth)
        top: dict[str, Any] = dict(read(_top_decoder, body, max_depth))
        for name in _RENAMED:
            top.pop(name, None)
        top["messages"] = list(_messages(fields))
        if fields.stop_sequences is not None:
            top["stop"] = fields.stop_sequences
        if fields.tools is not None:
            top["tools"] = [_tool(tool) for tool in fields.tools]
        if fields.tool_choice is not None:
            top.update(_tool_choice(fields.tool_choice))
        user = (fields.metadata or {}).get("user_id")
        if isinstance(user, str):
            top["user"] = user
        if fields.stream:
            top["stream_options"] = {"include_usage": True}
        made = msgspec.json.encode(top)
        return Request(self.endpoint, _chat_decoder.decode(made), made, trace, headers)

    def whole(self, request: Request, reply: Reply) -> bytes:
        event = reply.event
        choice = event.choices[0] if event is not None and event.choices else None
        if event is None or choice is None or choice.message is None:
            raise EngineProtocol("the engine's answer has no message")
        message = choice.message
        content: list[Block] = []
        thought = message.reasoning_content or message.reasoning
        if thought:
            content.append({"type": "thinking", "thinking": thought, "signature": ""})
        if message.content or message.refusal:
            content.append({"type": "text", "text": message.content or message.refusal})
        for call in message.tool_calls or ():
            function = _function(call)
            content.append(
                {
                    "type": "tool_use",
                    "id": call.get("id") or "",
                    "name": function.get("name") or "",
                    "input": _arguments(function.get("arguments")),
                }
            )
        return msgspec.json.encode(
            {
                "id": f"msg_{request.trace.id}",
                "type": "message",
                "role": "assistant",
                "model": request.model,
                "content": content,
                "stop_reason": _STOP_REASONS.get(choice.finish_reason or "stop", "end_turn"),
                "stop_sequence": None,
                "usage": _usage(event.usage),
            }
        )

    def encoder(self, request: Request) -> AnthropicEncoder:
        return AnthropicEncoder(request)

    def end(self, error: HastenError | None, done: bool) -> bytes:
        return b""  # the encoder's business

    def error(self, error: HastenError) -> bytes:
        return msgspec.json.encode(_error(error))


# -- the request ----------------------------------------------------------------------------------


def _messages(fields: MessagesFields) -> Iterator[Block]:
    if fields.system:
        yield {"role": "system", "content": _text(fields.system, "system")}
    for i, message in enumerate(fields.messages):
        path = f"messages[{i}].content"
        if isinstance(message.content, str):
            yield {"role": message.role, "content": message.content}
        elif message.role == "assistant":
            yield _assistant(message.content, path)
        elif message.role == "system":
            yield {"role": "system", "content": _text(message.content, path)}
        else:
            yield from _user(message.content, path)


def _text(content: str | list[Block], path: str) -> str:
    """Return text, or the text of text blocks; refuse others."""
    if isinstance(content, str):
        return content
    for i, block in enumerate(content):
        if block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise InvalidField(f"{path}[{i}].type: only text blocks are allowed here", f"{path}[{i}].type")
    return "\n\n".join(block["text"] for block in content)


def _assistant(blocks: list[Block], path: str) -> Block:
    texts: list[str] = []
    calls: list[Block] = []
    for i, block in enumerate(blocks):
        at = f"{path}[{i}]"
        match block.get("type"):
            case "text":
                texts.append(_field(block, "text", at))
            case "tool_use":
                function = {
                    "name": _field(block, "name", at),
                    "arguments": msgspec.json.encode(block.get("input") or {}).decode(),
                }
                calls.append({"id": _field(block, "id", at), "type": "function", "function": function})
            case "thinking" | "redacted_thinking":
                continue  # chat completions have no place for earlier thoughts
            case other:
                raise _unknown_block(other, at)
    message: Block = {"role": "assistant", "content": "".join(texts) or (None if calls else "")}
    if calls:
        message["tool_calls"] = calls
    return message


def _user(blocks: list[Block], path: str) -> Iterator[Block]:
    """Yield the tools' results, each a message of its own, and then what the user said."""
    parts: list[Block] = []
    for i, block in enumerate(blocks):
        at = f"{path}[{i}]"
        if block.get("type") == "tool_result":
            yield from _tool_result(block, at, parts)
        else:
            parts.append(_part(block, at))
    if not parts:
        return
    if all(part["type"] == "text" for part in parts):  # as text: the form that every engine takes
        yield {"role": "user", "content": "\n\n".join(part["text"] for part in parts)}
    else:
        yield {"role": "user", "content": parts}


def _part(block: Block, at: str) -> Block:
    match block.get("type"):
        case "text":
            return {"type": "text", "text": _field(block, "text", at)}
        case "image":
            return {
                "type": "image_url",
                "image_url": {"url": _image_url(block.get("source"), f"{at}.source")},
            }
        case other:
            raise _unknown_block(other, at)


def _tool_result(block: Block, at: str, parts: list[Block]) -> Iterator[Block]:
    content = block.get("content") or ""
    if isinstance(content, list):
        texts = []
        for i, inner in enumerate(content):
            if not isinstance(inner, dict):
                raise InvalidField(f"{at}.content[{i}]: expected object", f"{at}.content[{i}]")
            part = _part(inner, f"{at}.content[{i}]")
            if part["type"] == "text":
                texts.append(part["text"])
            else:
                parts.append(part)  # a tool's message holds text only: its images follow as the user's
        content = "\n\n".join(texts)
    if not isinstance(content, str):
        raise InvalidField(f"{at}.content: expected str or array", f"{at}.content")
    if block.get("is_error"):
        content = f"Error: {content}"
    yield {"role": "tool", "tool_call_id": _field(block, "tool_use_id", at), "content": content}


def _image_url(source: Any, at: str) -> str:
    if isinstance(source, dict) and source.get("type") == "base64":
        return f"data:{_field(source, 'media_type', at)};base64,{_field(source, 'data', at)}"
    if isinstance(source, dict) and source.get("type") == "url":
        return _field(source, "url", at)
    raise InvalidField(f"{at}.type: allowed are base64 and url", f"{at}.type")


def _field(block: Block, name: str, at: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise InvalidField(f"{at}.{name}: expected str", f"{at}.{name}")
    return value


def _unknown_block(kind: object, at: str) -> InvalidField:
    return InvalidField(
        f"{at}.type: blocks of type {str(kind)[:40]!r} cannot be sent to this engine", f"{at}.type"
    )


def _tool(tool: _Tool) -> Block:
    function: Block = {
        "name": tool.name,
        "parameters": tool.input_schema or {"type": "object", "properties": {}},
    }
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _tool_choice(choice: _ToolChoice) -> Block:
    made: Block = {}
    if choice.type == "tool":
        if choice.name is None:
            raise InvalidField("tool_choice.name: this field is required", "tool_choice.name")
        made["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    else:
        made["tool_choice"] = {"auto": "auto", "any": "required", "none": "none"}[choice.type]
    if choice.disable_parallel_tool_use is not None:
        made["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return made


# -- the reply ------------------------------------------------------------------------------------


def _function(call: Block) -> Block:
    """Return the function of a tool call; an engine may send anything in its place."""
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def _arguments(text: object) -> Any:
    """Return a tool call's arguments as an object; as ``{"_raw": text}`` when the model wrote no JSON."""
    if isinstance(text, dict):
        return text
    try:
        made = msgspec.json.decode(str(text or "{}"))
    except (msgspec.DecodeError, RecursionError):
        return {"_raw": text}
    return made if isinstance(made, dict) else {"_raw": text}


def _usage(usage: Usage | None) -> dict[str, int]:
    prompt = (usage.prompt_tokens if usage else None) or 0
    cached = ((usage.prompt_tokens_details if usage else None) or {}).get("cached_tokens")
    if not isinstance(cached, int):
        cached = 0
    return {
        "input_tokens": max(0, prompt - cached),
        "output_tokens": (usage.completion_tokens if usage else None) or 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    }


def _error(error: HastenError) -> Block:
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
        self._usage: Usage | None = None

    def chunk(self, chunk: Chunk) -> bytes:
        event = chunk.event
        if event is None:
            return b"" if chunk.done else b'event: ping\ndata: {"type": "ping"}\n\n'
        out = [] if self._started else [self._start(event)]
        if event.usage is not None:
            self._usage = event.usage
        for choice in event.choices or ():
            if choice.index != 0:
                continue
            if choice.delta is not None:
                out += self._delta(choice.delta)
            if choice.finish_reason is not None:
                self._stop_reason = _STOP_REASONS.get(choice.finish_reason, "end_turn")
        return b"".join(out)

    def end(self, error: HastenError | None, done: bool) -> bytes:
        if error is not None:
            return b"event: error\ndata: " + msgspec.json.encode(_error(error)) + b"\n\n"
        out = [] if self._started else [self._start(Event())]
        out += self._close()
        stop = {"stop_reason": self._stop_reason, "stop_sequence": None}
        out.append(_event("message_delta", delta=stop, usage=_usage(self._usage)))
        out.append(_event("message_stop"))
        return b"".join(out)

    def _start(self, event: Event) -> bytes:
        self._started = True
        message: Block = {
            "id": f"msg_{self._request.trace.id}",
            "type": "message",
            "role": "assistant",
            "model": self._request.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(event.usage),
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
            function = _function(call)
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
