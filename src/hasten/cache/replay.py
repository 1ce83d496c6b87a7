"""A stored answer as a reply: as it was, or from whole to stream and back.

In the form in which it was stored an answer is replayed byte for byte. The other form is made from it as an engine
would have sent it; what cannot be told exactly (an unknown shape) is no hit.
"""

from __future__ import annotations

import re
from time import perf_counter
from typing import Any

import msgspec

from hasten.cache.entry import Entry
from hasten.types import ENDED, Chunk, Event, Reply, Request, Stream

_WORDS = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")
_DONE = b"data: [DONE]\n\n"
_END = re.compile(rb"data: ?\[DONE\]\n\n\Z")
_decode = msgspec.json.Decoder().decode
_decode_event = msgspec.json.Decoder(Event).decode
_encode = msgspec.json.Encoder().encode
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_TEXTS = frozenset(
    ("content", "reasoning_content", "reasoning", "refusal")
)  # of a delta: they come in pieces


def replay(entry: Entry, request: Request) -> Reply | None:
    """Return ``entry`` as the answer to ``request``, streamed if it asks for that; ``None`` if that cannot be."""
    try:
        if request.stream:
            return _streamed(entry, request.include_usage, request.trace.endpoint != "messages")
        return _whole(entry, request.trace.endpoint == "messages")
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None


# -- as a stream ------------------------------------------------------------------------------------


def _streamed(entry: Entry, usage: bool, at_once: bool) -> Reply | None:
    if not entry.streamed:
        events = _cut(_decode(entry.body))
        if usage and events[-1].get("usage") is None:
            return None
        raws = [b"data: %b\n\n" % _encode(event) for event in (events if usage else events[:-1])]
        raws.append(_DONE)
    else:
        # Alike, it is sent as it was: some engines count unasked, others never.
        alike = usage == entry.usage or bool(entry.counts)
        body = _counted(entry) if usage else entry.body
        raws = [body]
        if not (alike and at_once):
            raws = [event + b"\n\n" for event in body.split(b"\n\n") if event]
        if usage and not alike and all(_usage_in(raw) is None for raw in raws):
            return None
        if not usage and not alike:
            raws = [raw for raw in raws if (said := _usage_in(raw)) is None or said.choices]
    now = perf_counter()
    stream = Stream(ENDED)
    if at_once:  # one write, and nobody looks into the events
        chunk = Chunk(b"".join(raws), None, now, done=raws[-1].endswith(_DONE))
        chunk.token = True
        chunk.finish = entry.finish_reason
        stream.feed(chunk)
    else:
        for raw in raws:
            data = data_of(raw)
            done = data == b"[DONE]"
            stream.feed(Chunk(raw, None if done or not data else _decode_event(data), now, done))
    stream.end()
    return Reply(content_type=b"text/event-stream; charset=utf-8", stream=stream)


def _counted(entry: Entry) -> bytes:
    """Return a stream's events with the token counts, where they are kept beside it, in their place: at the end."""
    body = entry.body
    if not entry.counts:
        return body
    end = _END.search(body, max(0, len(body) - 16))
    at = len(body) if end is None else end.start()
    return body[:at] + entry.counts + body[at:]


def data_of(raw: bytes) -> bytes:
    """Return the data of one event, its lines joined."""
    return b"\n".join(line[5:].removeprefix(b" ") for line in raw.split(b"\n") if line.startswith(b"data:"))


def _usage_in(raw: bytes) -> Event | None:
    """Return the event if it carries the answer's token counts; some servers have others, further inside."""
    if not _USAGE.search(raw):
        return None
    event = _decode_event(data_of(raw))
    return event if event.usage is not None else None


def _cut(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events that a whole answer would have come in; the last one carries the usage (or ``None``)."""
    common = {k: v for k, v in answer.items() if k not in ("choices", "usage", "object")}
    chat = "message" in answer["choices"][0]
    common["object"] = "chat.completion.chunk" if chat else "text_completion"
    events = []
    for choice in answer["choices"]:
        rest = {k: v for k, v in choice.items() if k not in ("message", "finish_reason")}
        if chat:
            delta = {k: v for k, v in choice["message"].items() if v is not None}
            first, *pieces = _pieces(delta.get("content"), choice)
            if pieces:
                delta["content"] = first
            for i, call in enumerate(delta.get("tool_calls") or ()):
                call.setdefault("index", i)
            events.append({**common, "choices": [{**rest, "delta": delta, "finish_reason": None}]})
            events += [
                {
                    **common,
                    "choices": [{"index": choice["index"], "delta": {"content": p}, "finish_reason": None}],
                }
                for p in pieces
            ]
            end = {"index": choice["index"], "delta": {}}
        else:
            events.append({**common, "choices": [{**rest, "finish_reason": None}]})
            end = {"index": choice["index"], "text": ""}
        events.append({**common, "choices": [{**end, "finish_reason": choice["finish_reason"]}]})
    events.append({**common, "choices": [], "usage": answer.get("usage")})
    return events


def _pieces(content: Any, choice: dict[str, Any]) -> list[Any]:
    """Return a text word by word, as clients that show a stream expect; in one piece where logprobs belong to it."""
    if not isinstance(content, str) or choice.get("logprobs") is not None:
        return [content]
    return _WORDS.findall(content) or [content]


# -- as a whole -------------------------------------------------------------------------------------


def _whole(entry: Entry, decoded: bool) -> Reply | None:
    body = entry.body
    if entry.streamed:
        events = [
            _decode(data) for raw in _counted(entry).split(b"\n\n") if (data := data_of(raw)).startswith(b"{")
        ]
        body = _encode(_join(events))
    reply = Reply(body=body)
    if decoded:
        reply.event = _decode_event(body)
    return reply


def _join(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the whole answer that came in ``events``. Raises ValueError for deltas that cannot be joined."""
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        answer.update(
            {k: v for k, v in event.items() if k != "choices" and (v not in (None, "") or k not in answer)}
        )
        for part in event.get("choices") or ():
            choice = choices.setdefault(part["index"], {"index": part["index"]})
            for name, value in part.items():
                if name == "delta":
                    _join_delta(choice.setdefault("message", {}), value)
                elif name == "text":
                    choice["text"] = choice.get("text", "") + value
                elif name == "logprobs" and value is not None:
                    choice["logprobs"] = _join_lists(choice.get("logprobs") or {}, value)
                elif isinstance(value, list) and choice.get(name):
                    raise ValueError(name)  # a piece each, or all of it again: who knows
                elif value is not None or name not in choice:
                    choice[name] = value
    chat = any("message" in choice for choice in choices.values())
    answer["object"] = "chat.completion" if chat else "text_completion"
    for choice in choices.values() if chat else ():
        choice["message"] = {"role": "assistant", "content": None, **choice.get("message", {})}
    return {**answer, "choices": [choices[i] for i in sorted(choices)]}


def _join_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if value is None or value == []:
            continue
        if name == "tool_calls":
            _join_calls(message.setdefault(name, []), value)
        elif name in _TEXTS:
            message[name] = message.get(name, "") + value
        elif name == "role" or name not in message:
            message[name] = value
        else:
            raise ValueError(name)  # a piece each, or all of it again: who knows


def _join_calls(calls: list[dict[str, Any]], parts: list[dict[str, Any]]) -> None:
    for part in parts:
        at = part["index"]
        if not 0 <= at <= len(calls):
            raise ValueError("index")
        if at == len(calls):
            calls.append({})
        call = calls[at]
        for name, value in part.items():
            if name == "function":
                function = call.setdefault(name, {"name": "", "arguments": ""})
                for key, text in value.items():
                    function[key] = function.get(key, "") + (text or "")
            elif name not in ("index", "id", "type") and name in call:
                raise ValueError(name)
            elif name != "index" and value is not None:
                call[name] = value


def _join_lists(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    for name, value in part.items():
        if isinstance(value, list):
            whole[name] = [*(whole.get(name) or ()), *value]
        elif value is not None or name not in whole:
            whole[name] = value
    return whole
