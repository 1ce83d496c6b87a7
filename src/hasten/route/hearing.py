"""What is heard of an answer so far, streamed or whole: its text, its end, how sure its tokens were."""

from __future__ import annotations

import math

import msgspec

from hasten.tokens import Said, prompt
from hasten.trace import count_of
from hasten.types import Choice, Chunk, Delta, Reply, Request, Usage

Raws = dict[str, msgspec.Raw]
_NULL = msgspec.Raw(b"null")


class _Token(msgspec.Struct):
    logprob: float | None = None


class _Logprobs(msgspec.Struct):
    """Of a chat (``content``) or a text completion (``token_logprobs``)."""

    content: list[_Token] | None = None
    token_logprobs: list[float | None] | None = None


class _Choice(msgspec.Struct):
    logprobs: _Logprobs | None = None


class _Logged(msgspec.Struct):
    choices: list[_Choice] | None = None


_decode_logged = msgspec.json.Decoder(_Logged).decode
_decode_top = msgspec.json.Decoder(Raws).decode
_decode_choices = msgspec.json.Decoder(list[Raws]).decode


class Heard:
    """The one choice of an answer."""

    __slots__ = ("calls", "finish", "logprobs", "refused", "said", "texts", "usage")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.finish: str | None = None
        self.refused = False
        self.calls: dict[int, list[str]] = {}  # of tools: [name, arguments]
        self.logprobs: list[float] = []
        self.said = Said()  # for its tokens, where the engine does not count them
        self.usage: Usage | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.texts)

    def add(self, chunk: Chunk) -> None:
        """Hear one event of a stream."""
        event = chunk.event
        if event is None:
            return
        if chunk.token:
            self.said.note(event, len(chunk.raw))
        self.usage = event.usage or self.usage
        for choice in event.choices or ():
            self._choice(choice)
        if b'"logprob' in chunk.raw:
            self._log(_data(chunk.raw))

    def whole(self, reply: Reply) -> Heard:
        """Hear a whole reply; returns itself."""
        if reply.event is not None:
            self.usage = reply.event.usage
            for choice in reply.event.choices or ():
                self._choice(choice)
            self.said.note(reply.event, len(reply.body))
            self._log(reply.body)
        return self

    def _choice(self, choice: Choice) -> None:
        self.finish = choice.finish_reason or self.finish
        said = choice.delta or choice.message or Delta()
        text = said.content or choice.text
        if text:
            self.texts.append(text)
        self.refused = self.refused or bool(said.refusal)
        for i, call in enumerate(said.tool_calls or ()):
            index = call.get("index", i)
            function = call.get("function")
            if isinstance(index, int) and isinstance(function, dict):
                whole = self.calls.setdefault(index, ["", ""])
                for at, name in enumerate(("name", "arguments")):
                    piece = function.get(name)
                    whole[at] += piece if isinstance(piece, str) else ""

    def _log(self, data: bytes) -> None:
        try:
            logged = _decode_logged(data)
        except (msgspec.DecodeError, RecursionError):
            return
        for choice in logged.choices or ():
            found = choice.logprobs or _Logprobs()
            values = [t.logprob for t in found.content or ()] + list(found.token_logprobs or ())
            self.logprobs += [v for v in values if v is not None and math.isfinite(v)]

    @property
    def perplexity(self) -> float | None:
        """exp(-mean log-probability), 1 or more; ``None`` where nothing is known."""
        if not self.logprobs:
            return None
        return math.exp(min(50.0, max(0.0, -sum(self.logprobs) / len(self.logprobs))))

    def __repr__(self) -> str:
        return f"<Heard {self.said!r}, finish {self.finish!r}>"


# -- log-probabilities, asked for and taken out again


def asks_logprobs(request: Request) -> bool:
    """Whether the client itself wants them."""
    return bool(getattr(request.fields, "logprobs", None))


def with_logprobs(request: Request) -> bytes:
    """Return the body with log-probabilities asked for."""
    top = _decode_top(request.body)
    top["logprobs"] = msgspec.Raw(b"true" if request.endpoint == "chat" else b"1")
    return msgspec.json.encode(top)


def quiet(body: bytes) -> bytes:
    """Return an answer's or an event's JSON with ``logprobs`` null in its choices, as if nobody had asked."""
    if b'"logprobs"' not in body:
        return body
    try:
        top = _decode_top(body)
        choices = _decode_choices(top.get("choices", _NULL))
    except (msgspec.DecodeError, RecursionError):
        return body
    for choice in choices:
        if "logprobs" in choice:
            choice["logprobs"] = _NULL
    top["choices"] = msgspec.Raw(msgspec.json.encode(choices))
    return msgspec.json.encode(top)


def quiet_chunk(chunk: Chunk) -> Chunk:
    """Return a stream's event without log-probabilities."""
    if b'"logprobs"' not in chunk.raw:
        return chunk
    return Chunk(b"data: " + quiet(_data(chunk.raw)) + b"\n\n", chunk.event, chunk.at, chunk.done)


def _data(raw: bytes) -> bytes:
    """Return an event's data; lines that are no data are left out."""
    lines = raw.splitlines()
    return b"\n".join(line[5:].lstrip() for line in lines if line.startswith(b"data:"))


def tokens_of(heard: Heard, request: Request) -> tuple[int, int]:
    """Return the tokens in and out; estimated where the engine did not say."""
    usage = heard.usage or Usage()
    given, said = count_of(usage.prompt_tokens), count_of(usage.completion_tokens)
    return prompt(request) if given is None else given, heard.said.tokens if said is None else said
