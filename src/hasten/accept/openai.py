"""OpenAI's format: the gateway's own inside, so bytes pass through as they are."""

from __future__ import annotations

from typing import Any

import msgspec

from hasten.accept.wire import openai_error, read
from hasten.errors import HastenError
from hasten.trace import Trace
from hasten.types import Fields, Message, Reply, Request

Number = float | None
Whole = int | None


class ChatFields(Fields, kw_only=True):
    """The known fields of a chat completion; unknown ones stay in the body."""

    messages: list[Message]
    max_tokens: Whole = None
    max_completion_tokens: Whole = None
    temperature: Number = None
    top_p: Number = None
    n: Whole = None
    stop: str | list[str] | None = None
    seed: Whole = None
    presence_penalty: Number = None
    frequency_penalty: Number = None
    logprobs: bool | None = None
    top_logprobs: Whole = None
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = None


class CompletionFields(Fields, kw_only=True):
    """The known fields of a text completion."""

    prompt: str | list[str | int | list[int]]
    max_tokens: Whole = None
    temperature: Number = None
    top_p: Number = None
    n: Whole = None
    stop: str | list[str] | None = None
    seed: Whole = None
    logprobs: Whole = None
    user: str | None = None


class EmbeddingFields(Fields, kw_only=True):
    """The known fields of an embedding request."""

    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: Whole = None
    user: str | None = None


_FIELDS: dict[str, type[Fields]] = {
    "chat": ChatFields,
    "completions": CompletionFields,
    "embeddings": EmbeddingFields,
}


class OpenAIWire:
    """Chat completions, completions or embeddings, as ``endpoint`` says."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._decoder = msgspec.json.Decoder(_FIELDS[endpoint])

    def decode(self, body: bytes, trace: Trace, headers: dict[bytes, bytes], max_depth: int) -> Request:
        fields = read(self._decoder, body, max_depth)
        return Request(self.endpoint, fields, body, trace, headers)

    def whole(self, request: Request, reply: Reply) -> bytes:
        return reply.body

    def encoder(self, request: Request) -> None:
        return None

    def end(self, error: HastenError | None, done: bool) -> bytes:
        """End a broken stream with an error event, a complete one with ``[DONE]``."""
        if error is not None:
            return b"data: " + openai_error(error).replace(b"\n", b" ") + b"\n\n"
        return b"" if done else b"data: [DONE]\n\n"

    def error(self, error: HastenError) -> bytes:
        return openai_error(error)
