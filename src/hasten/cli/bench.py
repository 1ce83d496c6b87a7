"""``hasten bench URL``: how fast is an OpenAI-compatible server, and is it faster than another?"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hasten.bench.run import Options

DESCRIPTION = """Measure chat completions: TTFT, TPOT, ITL, E2E, output tokens/s, errors, goodput.

Without --rate the loop is closed: --concurrency requests are kept in flight. With --rate it is open: requests
are due at that rate whatever the server does, and latency counts from the due time.
One request is sent first, uncounted, to see that the server answers.
Exit code: 0 measured, 1 every request failed, 2 cannot be measured, 130 interrupted (what there is is shown)."""


def add(subparsers: Any) -> None:
    """Add the ``bench`` subcommand to ``subparsers`` (of :mod:`argparse`)."""
    parser = subparsers.add_parser(
        "bench",
        help="measure an OpenAI-compatible server",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", help="base URL, with or without /v1")
    parser.set_defaults(run=main)

    load = parser.add_argument_group("load")
    load.add_argument(
        "-c", "--concurrency", type=_count, metavar="N", help="in flight at most (closed loop: 4)"
    )
    load.add_argument("-n", "--requests", type=_count, metavar="N", help="end after N (default 100)")
    load.add_argument(
        "-d", "--duration", type=_positive, metavar="S", help="send for S seconds (to each target)"
    )
    load.add_argument("--rate", type=_positive, metavar="R", help="requests/s: open loop")
    load.add_argument(
        "--arrival", choices=("poisson", "constant"), default="poisson", help="of the open loop"
    )
    load.add_argument("--seed", type=int, default=0, help="of arrivals and intervals (default 0)")
    load.add_argument(
        "--warmup", type=_whole, metavar="N", help="uncounted requests first (default: in flight)"
    )

    ask = parser.add_argument_group("request")
    ask.add_argument("--model", help="default: the first of /v1/models")
    prompts = ask.add_mutually_exclusive_group()
    prompts.add_argument("--prompt", metavar="TEXT", help="ask this every time")
    prompts.add_argument(
        "--prompts", type=Path, metavar="FILE", help="a prompt a line, or JSONL with messages"
    )
    ask.add_argument(
        "--unique", action="store_true", help="make every prompt new, so that no cache can answer"
    )
    ask.add_argument("--max-tokens", type=_count, default=64, metavar="N", help="default 64")
    ask.add_argument("--temperature", type=float, metavar="T", help="default: not sent")
    ask.add_argument("--stream", action=argparse.BooleanOptionalAction, default=True)
    ask.add_argument("-H", "--header", type=_header, action="append", default=[], metavar="K:V")
    ask.add_argument("--api-key", metavar="KEY", help="default: $OPENAI_API_KEY; with --vs both get it")
    ask.add_argument("--timeout", type=_positive, default=300.0, metavar="S", help="a request in all (300)")

    out = parser.add_argument_group("report")
    out.add_argument(
        "--slo", type=_slo, metavar="LIMITS", help="ms, such as ttft=200,tpot=33,e2e=800: goodput"
    )
    out.add_argument("--vs", metavar="URL2", help="compare (A) with URL2 (B) in alternating rounds")
    out.add_argument("--rounds", type=_pairs, default=10, metavar="N", help="of --vs, each both (default 10)")
    out.add_argument("--json", metavar="FILE", help="write the result as JSON; - is standard output")
    out.add_argument("--raw", action="store_true", help="with every request's record in the JSON")


def main(args: argparse.Namespace) -> int:
    """Run the benchmark that ``args`` ask for and return the exit code."""
    from rich.console import Console

    from hasten.bench import report
    from hasten.bench.run import run
    from hasten.bench.target import TargetError

    console = Console(stderr=args.json == "-")
    try:
        options = options_of(args)
        with _Bar(options) as bar:
            result = run(options, bar.watch)
        if args.json:
            _write(args.json, report.as_json(options, result, args.raw))
    except (TargetError, ValueError, argparse.ArgumentTypeError) as exc:
        print(f"hasten bench: {exc}", file=sys.stderr)
        return 2
    except OSError as exc:
        print(f"hasten bench: {exc.filename or 'system'}: {exc.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hasten bench: interrupted before anything was measured", file=sys.stderr)
        return 130
    report.show(console, options, result)
    if result.interrupted:
        return 130
    return int(all(record.error is not None for side in result.sides for record in side.records))


def options_of(args: argparse.Namespace) -> Options:
    """Return what ``args`` ask for. Raises :class:`ValueError` and :class:`OSError` (the prompts' file)."""
    from hasten.bench.load import Plan
    from hasten.bench.run import Options
    from hasten.bench.target import base_of
    from hasten.bench.workload import PROMPTS, as_messages, read_prompts

    if args.slo is not None and args.slo.ttft is not None and not args.stream:
        raise ValueError("a TTFT limit needs --stream")
    conversations = read_prompts(args.prompts) if args.prompts else [as_messages(p) for p in PROMPTS]
    if args.prompt is not None:
        conversations = [as_messages(args.prompt)]
    headers = dict(args.header)
    key = args.api_key or os.environ.get("OPENAI_API_KEY")
    if key and "authorization" not in headers:
        headers.update([_header(f"authorization: Bearer {key}")])
    requests = args.requests
    if requests is None and args.duration is None:
        requests = 100
    plan = Plan(args.concurrency, requests, args.duration, args.rate, args.arrival, args.seed)
    return Options(
        urls=tuple(base_of(url) for url in (args.url, args.vs) if url),
        plan=plan,
        model=args.model,
        conversations=conversations,
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        stream=args.stream,
        unique=args.unique,
        headers=headers,
        timeout=args.timeout,
        warmup=args.warmup,
        slo=args.slo,
        rounds=args.rounds,
    )


class _Bar:
    """Progress on standard error, where that is a terminal."""

    def __init__(self, options: Options) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._progress = Progress(
            console=console, transient=True, refresh_per_second=4, disable=not console.is_terminal
        )
        total = options.plan.requests and options.plan.requests * len(options.urls)
        self._task = self._progress.add_task("measuring", total=total)
        self._failed = 0

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def watch(self, side: int, record: Any) -> None:
        """Count one more record."""
        self._failed += record.error is not None
        text = f"measuring, {self._failed} failed" if self._failed else "measuring"
        self._progress.update(self._task, advance=1, description=text)


def _write(path: str, data: bytes) -> None:
    if path == "-":
        sys.stdout.write(data.decode())
        sys.stdout.flush()
    else:
        Path(path).write_bytes(data)


def _checked(kind: type, low: float, text: str) -> Callable[[str], Any]:
    def convert(value: str) -> Any:
        try:
            number = kind(value)
        except ValueError:
            number = None
        if number is None or not low <= number < float("inf"):
            raise argparse.ArgumentTypeError(f"expected {text}, got {value!r}")
        return number

    return convert


_whole = _checked(int, 0, "a whole number")
_count = _checked(int, 1, "a whole number above 0")
_pairs = _checked(int, 2, "a whole number, 2 or more")
_positive = _checked(float, 1e-6, "a number above 0")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isascii() or any(c in text for c in "\r\n\0"):
        raise argparse.ArgumentTypeError("expected NAME: VALUE, one line of ASCII")
    return name.strip().lower(), value.strip()


def _slo(text: str) -> Any:
    from hasten.bench.slo import parse_slo

    try:
        return parse_slo(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
