"""What is asked: the bodies of the requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

Messages = list[dict[str, Any]]

#: Short and long, easy and hard; none needs more than a small model.
PROMPTS = (
    "What is the capital of France?",
    "Write a haiku about the sea in winter.",
    "Explain in three sentences why the sky is blue.",
    "List five uses of a paper clip besides holding paper.",
    "Translate into German: The train leaves at seven and arrives before noon.",
    "Summarise the idea of supply and demand for a twelve-year-old.",
    "Write a Python function that returns the n-th Fibonacci number, with a docstring.",
    "Compare bread baked with yeast and with sourdough: taste, time, keeping.",
    "A shop sells pens at 3 for 2 euros. How much do 24 pens cost? Show the steps.",
    "Draft a polite e-mail that moves a meeting from Tuesday to Thursday afternoon.",
    "What happens, step by step, when a web browser opens a page?",
    "Name three risks of a project that depends on one supplier, and a remedy for each.",
    "Turn into a table: Ann, 31, Oslo; Ben, 45, Lyon; Cleo, 28, Porto.",
    "Tell a story of about a hundred words in which a lighthouse keeper finds a letter.",
    "Which is larger, 9.11 or 9.9? Give the reason.",
    "Write a SQL query for the ten customers with the highest total of orders last year.",
)


def read_prompts(path: Path) -> list[Messages]:
    """Read one conversation a line: plain text, or JSON with ``messages`` or ``prompt``; blank lines are skipped.

    Raises :class:`ValueError` with the line's number for a line that cannot be used, :class:`OSError` for the file.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if text:
            try:
                found.append(_parse(text))
            except ValueError as exc:
                raise ValueError(f"{path}, line {number}: {exc}") from None
    if not found:
        raise ValueError(f"{path}: no prompts in it")
    return found


def _parse(text: str) -> Messages:
    if not text.startswith("{"):
        return as_messages(text)
    try:
        item = msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise ValueError(f"not valid JSON: {exc}") from None
    messages = item.get("messages")
    if isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages):
        return messages
    if isinstance(item.get("prompt"), str):
        return as_messages(item["prompt"])
    raise ValueError('expected {"messages": [...]} or {"prompt": "..."}')


def as_messages(prompt: str) -> Messages:
    """Return ``prompt`` as a conversation of one user message."""
    return [{"role": "user", "content": prompt}]


class Workload:
    """Makes the body of the i-th request, going round the conversations.

    ``unique`` puts a number that is never used again before the first message, so that no cache on the way, of
    answers or of prefixes, can serve a repeated prompt.
    """

    def __init__(
        self,
        conversations: list[Messages],
        max_tokens: int | None = None,
        temperature: float | None = None,
        stream: bool = True,
        unique: str = "",
    ) -> None:
        self.conversations = conversations
        self.stream = stream
        self.unique = unique
        self.fields: dict[str, Any] = {"stream": stream}
        if max_tokens is not None:
            self.fields["max_tokens"] = max_tokens
        if temperature is not None:
            self.fields["temperature"] = temperature
        if stream:
            self.fields["stream_options"] = {"include_usage": True}

    def body(self, model: str, i: int) -> bytes:
        """Return the JSON of request ``i``."""
        messages = self.conversations[i % len(self.conversations)]
        if self.unique:
            first = messages[0]
            content = first.get("content")
            if isinstance(content, str):
                messages = [{**first, "content": f"[{self.unique}-{i}] {content}"}, *messages[1:]]
            else:
                messages = [{"role": "system", "content": f"[{self.unique}-{i}]"}, *messages]
        return msgspec.json.encode({"model": model, "messages": messages, **self.fields})
