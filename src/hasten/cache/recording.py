"""Which answers may be kept: complete, unfiltered, free of errors, and the asked model's own."""

from __future__ import annotations

from collections.abc import Callable

from hasten.errors import HastenError
from hasten.settings import Cache
from hasten.trace import Trace
from hasten.types import Aside, Choice, Chunk, Delta, Event, Reply, Request

_TOOLS = ("tool_calls", "function_call")


def refuse_whole(request: Request, reply: Reply, settings: Cache) -> str | None:
    """Return why a whole reply must not be stored, or ``None``."""
    if reply.status != 200 or not reply.content_type.startswith(b"application/json"):
        return "not_an_answer"
    if reply.headers and any(name == b"content-encoding" for name, _ in reply.headers):
        return "encoded"
    common = _common(request.trace, len(reply.body), settings)
    if common is not None:
        return common
    event = reply.event
    if request.endpoint == "embeddings":
        failed = event is not None and event.error is not None
        return None if b'"embedding"' in reply.body and not failed else "incomplete"
    if event is None or event.error is not None or not event.choices:
        return "incomplete"
    return _judge(event.choices, _wanted(request), settings)


def refuse_stream(request: Request, chunks: list[Chunk], size: int, settings: Cache) -> str | None:
    """Return why a stream that ended well must not be stored, or ``None``."""
    common = _common(request.trace, size, settings)
    if common is not None:
        return common
    choices: dict[int, Choice] = {}
    for chunk in chunks:
        event = chunk.event
        if event is None:
            continue
        if event.error is not None:
            return "error"
        for choice in event.choices or ():
            whole = choices.get(choice.index)
            if whole is None:
                whole = choices[choice.index] = Choice(choice.index, message=Delta())
            _add(whole, choice)
    return _judge(list(choices.values()), _wanted(request), settings)


def usage_of(chunks: list[Chunk]) -> Event | None:
    """Return the last event of a stream that carries token counts."""
    for chunk in reversed(chunks):
        if chunk.event is not None and chunk.event.usage is not None:
            return chunk.event
    return None


def counts_of(chunks: list[Chunk]) -> bytes:
    """Return the events of a stream that its client was spared: token counts that the gateway asked for."""
    return b"".join([chunk.kept for chunk in chunks if isinstance(chunk, Aside)])


def _common(trace: Trace, size: int, settings: Cache) -> str | None:
    if trace.route == "fallback" or trace.route.startswith("kept"):  # judged short, and all there was
        return "fallback"
    if trace.route in ("deadline", "health"):  # good for one that could not wait, not for the next
        return "stand_in"
    return "too_large" if size > settings.max_entry_bytes else None


def _wanted(request: Request) -> int:
    return getattr(request.fields, "n", None) or 1


def _add(whole: Choice, part: Choice) -> None:
    """Note in ``whole`` that ``part`` brought something; its content is not needed."""
    if part.finish_reason:
        whole.finish_reason = part.finish_reason
    if part.text:
        whole.text = part.text
    said, have = part.delta or part.message, whole.message
    if said is not None and have is not None:
        have.content = have.content or said.content
        have.refusal = have.refusal or said.refusal
        have.tool_calls = have.tool_calls or said.tool_calls


def _judge(choices: list[Choice], wanted: int, settings: Cache) -> str | None:
    if len(choices) < wanted:
        return "incomplete"
    for choice in choices:
        said = choice.message or choice.delta
        finish = choice.finish_reason
        calls = said is not None and bool(said.tool_calls)
        if calls or finish in _TOOLS:
            if not settings.tool_calls:
                return "tool_calls"
            if finish not in (*_TOOLS, "stop"):
                return f"finish_{finish}"
            continue
        if finish != "stop":
            return f"finish_{finish}" if finish in ("length", "content_filter") else "incomplete"
        if said is not None and said.refusal:
            return "refusal"
        if not (choice.text or (said is not None and said.content)):
            return "empty"
    return None


class AtEnd:
    """A sink that reads nothing and only wants the end."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[HastenError | None], None]) -> None:
        self._call = call

    def on_chunk(self, chunk: Chunk) -> None:
        pass

    def on_end(self, error: HastenError | None) -> None:
        self._call(error)
