"""OpenAI's format: the gateway's own inside, so bytes pass through as they are."""

from __future__ import annotations

import msgspec

from hasten.accept.wire import openai_error, read
from hasten.errors import HastenError
from hasten.fields import ChatFields, CompletionFields, EmbeddingFields, Fields
from hasten.trace import Trace
from hasten.types import Chunk, Reply, Request

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

    def encoder(self, request: Request) -> OpenAIWire:
        return self  # events pass as they are

    def chunk(self, chunk: Chunk) -> bytes:
        return chunk.raw

    def end(self, error: HastenError | None, done: bool) -> bytes:
        """End a broken stream with an error event, a complete one with ``[DONE]``."""
        if error is not None:
            return b"data: " + openai_error(error).replace(b"\n", b" ") + b"\n\n"
        return b"" if done else b"data: [DONE]\n\n"

    def error(self, error: HastenError) -> bytes:
        return openai_error(error)
