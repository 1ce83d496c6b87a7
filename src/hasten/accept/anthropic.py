"""Anthropic's Messages format, translated to and from the gateway's own (OpenAI's chat completions).

What the translation knows: text, system prompts, images, tools and their results, thinking, usage, errors, and all of
these streamed. Fields that it does not know go to the engine as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal

import msgspec

from hasten.accept.anthropic_reply import (
    STOP_REASONS,
    AnthropicEncoder,
    Block,
    arguments_of,
    error_of,
    function_of,
    usage_of,
)
from hasten.accept.routes import Head, Page
from hasten.accept.wire import read
from hasten.errors import EngineProtocol, HastenError, InvalidField, UnknownModel
from hasten.fields import ChatFields, Fields
from hasten.tokens import prompt
from hasten.trace import Trace
from hasten.types import Reply, Request


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class _Tool(msgspec.Struct):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class _ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class CountFields(Fields, kw_only=True):
    """The known fields of a request to count tokens: those of a Messages request, which need not say ``max_tokens``."""

    messages: list[_Message]
    system: str | list[Block] | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    metadata: dict[str, Any] | None = None


class MessagesFields(CountFields, kw_only=True):
    """The known fields of a Messages request."""

    max_tokens: int


_RENAMED = ("system", "stop_sequences", "messages", "tools", "tool_choice", "metadata", "thinking")
_decoder = msgspec.json.Decoder(MessagesFields)
_count_decoder = msgspec.json.Decoder(CountFields)
_top_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_chat_decoder = msgspec.json.Decoder(ChatFields)


class AnthropicWire:
    """``/v1/messages``."""

    endpoint = "chat"

    def decode(self, body: bytes, trace: Trace, headers: dict[bytes, bytes], max_depth: int) -> Request:
        return _translated(read(_decoder, body, max_depth), body, trace, headers)

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
            function = function_of(call)
            content.append(
                {
                    "type": "tool_use",
                    "id": call.get("id") or "",
                    "name": function.get("name") or "",
                    "input": arguments_of(function.get("arguments")),
                }
            )
        return msgspec.json.encode(
            {
                "id": f"msg_{request.trace.id}",
                "type": "message",
                "role": "assistant",
                "model": request.model,
                "content": content,
                "stop_reason": STOP_REASONS.get(choice.finish_reason or "stop", "end_turn"),
                "stop_sequence": None,
                "usage": usage_of(request.trace),
            }
        )

    def encoder(self, request: Request) -> AnthropicEncoder:
        return AnthropicEncoder(request)

    def error(self, error: HastenError) -> bytes:
        return msgspec.json.encode(error_of(error))


def counting(models: Collection[str], max_depth: int) -> Page:
    """Return the page that counts the tokens of a Messages request: about as many, as no engine is asked.

    What would be refused as a message is refused here, ``models`` that are not there included.
    """

    async def page(head: Head) -> Reply:
        fields: CountFields = read(_count_decoder, head.body, max_depth)
        if fields.model not in models:
            raise UnknownModel(f"there is no model {fields.model[:100]!r}; there are: {', '.join(models)}")
        request = _translated(fields, head.body, Trace(), head.headers)
        return Reply(body=msgspec.json.encode({"input_tokens": prompt(request)}))

    return page


# -- the request ----------------------------------------------------------------------------------


def _translated(fields: CountFields, body: bytes, trace: Trace, headers: dict[bytes, bytes]) -> Request:
    top: dict[str, Any] = _top_decoder.decode(body)
    for name in _RENAMED:
        top.pop(name, None)
    top["messages"] = list(_messages(fields))
    if fields.stop_sequences is not None:
        top["stop"] = fields.stop_sequences
    if fields.tools is not None:
        top["tools"] = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(fields.tools)]
    if fields.tool_choice is not None:
        top.update(_tool_choice(fields.tool_choice))
    user = (fields.metadata or {}).get("user_id")
    if isinstance(user, str):
        top["user"] = user
    made = msgspec.json.encode(top)
    return Request(AnthropicWire.endpoint, _chat_decoder.decode(made), made, trace, headers)


def _messages(fields: CountFields) -> Iterator[Block]:
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


def _tool(tool: _Tool, at: str) -> Block:
    if tool.type not in (None, "custom"):  # Anthropic's own tools run at Anthropic
        raise InvalidField(f"{at}.type: tools of type {tool.type[:40]!r} are not offered here", f"{at}.type")
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
