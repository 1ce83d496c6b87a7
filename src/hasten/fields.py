"""The fields of a request's body that the gateway knows, in OpenAI's format; others stay in the body."""

from __future__ import annotations

from typing import Any

import msgspec


class StreamOptions(msgspec.Struct):
    """The known part of ``stream_options``."""

    include_usage: bool | None = None


class Message(msgspec.Struct):
    """The known part of a chat message; ``content`` is text, parts, or null."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class Fields(msgspec.Struct, kw_only=True):
    """Fields that chat, completion and embedding requests share. ``stream_options``: a null is not the same as none."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def include_usage(self) -> bool:
        """Whether a stream is to end with its token counts."""
        options = self.stream_options
        return isinstance(options, StreamOptions) and bool(options.include_usage)


class ChatFields(Fields, kw_only=True):
    """The known fields of a chat completion; unknown ones stay in the body."""

    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = None


class CompletionFields(Fields, kw_only=True):
    """The known fields of a text completion."""

    prompt: str | list[str | int | list[int]]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    logprobs: int | None = None
    user: str | None = None


class EmbeddingFields(Fields, kw_only=True):
    """The known fields of an embedding request."""

    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None
    user: str | None = None


class Asked(msgspec.Struct, gc=False):
    """What a request asked for, without its texts: the counts and numbers that a replay needs."""

    bytes: int
    messages: int = 1
    tools: int = 0
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    n: int | None = None


def asked_of(fields: Fields, size: int) -> Asked:
    """Return what ``fields``, of a body of ``size`` bytes, ask for."""
    if isinstance(fields, ChatFields):
        limit = fields.max_completion_tokens
        return Asked(
            size,
            len(fields.messages),
            len(fields.tools or ()),
            limit if limit is not None else fields.max_tokens,
            fields.temperature,
            fields.seed,
            fields.n,
        )
    if isinstance(fields, CompletionFields):
        return Asked(size, 1, 0, fields.max_tokens, fields.temperature, fields.seed, fields.n)
    return Asked(size)
