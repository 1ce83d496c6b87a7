"""``hasten chat``: talk to a running gateway from the terminal; after each answer its TTFT and tokens/s."""

from __future__ import annotations

import argparse
import http.client
import os
import sys
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from hasten.engines.sse import EventSplitter, data_of
from hasten.errors import HastenError

if TYPE_CHECKING:
    from rich.console import Console


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("chat", help="talk to a running gateway from the terminal")
    parser.add_argument("prompt", nargs="*", help="one question; without it: a conversation")
    parser.add_argument("--url", default="http://127.0.0.1:8400", help="the gateway (default: %(default)s)")
    parser.add_argument("--model", help="default: the first of /v1/models")
    parser.add_argument("--system", help="a system prompt")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=0.0, help="default: %(default)s")
    parser.add_argument("--api-key", default=os.environ.get("HASTEN_KEY"), help="default: $HASTEN_KEY")
    parser.set_defaults(run=run)


class Talk:
    """One conversation with one gateway."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._url = urlsplit(args.url if "//" in args.url else f"http://{args.url}")
        self._headers = {"content-type": "application/json"}
        if args.api_key:
            self._headers["authorization"] = f"Bearer {args.api_key}"
        self._options = {"max_tokens": args.max_tokens, "temperature": args.temperature}
        self.messages: list[dict[str, str]] = []
        if args.system:
            self.messages.append({"role": "system", "content": args.system})
        self.model: str = args.model or self._first_model()

    def _call(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        secure = self._url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=300)
        base = self._url.path.rstrip("/").removesuffix("/v1")
        try:
            connection.request(method, base + path, body, self._headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as exc:
            where = self._url.geturl()
            raise HastenError(
                f"no gateway answers at {where} ({exc}); start one with: hasten serve"
            ) from None
        if response.status != 200:
            raise HastenError(_message(response.read()) or f"{path}: status {response.status}")
        return response

    def _first_model(self) -> str:
        found = msgspec.json.decode(self._call("GET", "/v1/models").read())
        return str(found["data"][0]["id"])

    def ask(self, text: str) -> Iterator[str]:
        """Yield the answer piece by piece; :attr:`report` is its measure afterwards."""
        self.messages.append({"role": "user", "content": text})
        body: dict[str, Any] = {
            "model": self.model,
            "messages": self.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body |= {k: v for k, v in self._options.items() if v is not None}
        began = perf_counter()
        first = last = None
        events = tokens = 0
        answer: list[str] = []
        response = self._call("POST", "/v1/chat/completions", msgspec.json.encode(body))
        try:
            for data in _events(response):
                event = msgspec.json.decode(data)
                if event.get("error"):
                    raise HastenError(_message(data) or "the stream ended with an error")
                tokens = (event.get("usage") or {}).get("completion_tokens") or tokens
                for choice in event.get("choices") or ():
                    piece = choice.get("delta", {}).get("content")
                    if piece:
                        last = perf_counter()
                        first = first or last
                        events += 1
                        answer.append(piece)
                        yield piece
        finally:
            response.close()
            self.messages.append({"role": "assistant", "content": "".join(answer)})
            self.report = _report(began, first, last, tokens or events)


def _events(response: http.client.HTTPResponse) -> Iterator[bytes]:
    splitter = EventSplitter()
    while piece := response.read1(65536):
        for event in splitter.feed(piece):
            data = data_of(event)
            if data == b"[DONE]":
                return
            if data is not None:
                yield data


def _report(began: float, first: float | None, last: float | None, tokens: int) -> str:
    if first is None or last is None:
        return "no answer"
    rate = f", {(tokens - 1) / (last - first):.1f} tokens/s" if tokens > 1 and last > first else ""
    return f"TTFT {(first - began) * 1e3:.0f} ms{rate}, {tokens} tokens, {last - began:.2f} s"


def _message(body: bytes) -> str | None:
    try:
        error = msgspec.json.decode(body)["error"]
        return str(error["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return None


def run(args: argparse.Namespace) -> int:
    """Ask once, or talk until the end of input."""
    from rich.console import Console  # a tenth of a second that only this command needs

    out = Console(highlight=False)
    talk = Talk(args)
    if args.prompt:
        _turn(out, talk, " ".join(args.prompt))
        return 0
    if sys.stdin.isatty():
        out.print(f"[dim]{talk.model}; /new begins anew, Ctrl-C stops an answer, Ctrl-D leaves[/dim]")
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return 0
        if text == "/new":
            talk.messages = [m for m in talk.messages if m["role"] == "system"]
        elif text:
            try:
                _turn(out, talk, text)
            except HastenError as exc:
                out.print(f"[red]{exc.message}[/red]")


def _turn(out: Console, talk: Talk, text: str) -> None:
    try:
        for piece in talk.ask(text):
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pass
    print()
    out.print(f"[dim]{talk.report}[/dim]")
