"""An upstream whose answers say which question they are for, run as a program.

``python bench/answering.py --port N --answers FILE``: FILE is JSON, from a question (its messages after the first, see
:func:`cache_judge.form`) to the id and the text of its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import httptools
from cache_judge import form


class Answering(asyncio.Protocol):
    """One connection."""

    def __init__(self, answers: dict[str, list[str]]) -> None:
        self.answers = answers
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        asked = json.loads(self.body or b"{}").get("messages", [])
        self.body = b""
        number, text = self.answers.get(form(asked[1:]), ("unknown", "Nothing is known about this."))
        answer = {
            "id": number,
            "object": "chat.completion",
            "created": 1767225600,
            "model": "bench",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": 40},
        }
        data = json.dumps(answer).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % len(data) + data)


async def serve(port: int, answers: dict[str, list[str]]) -> None:
    """Answer until ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(answers), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    args = parser.parse_args()
    asyncio.run(serve(args.port, json.loads(args.answers.read_text(encoding="utf-8"))))
