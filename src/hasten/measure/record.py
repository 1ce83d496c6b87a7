"""One finished request as a flat record: what the request log keeps, what others are told of it, what a replay reads.

The fields are described in docs/telemetry.md. Within a :data:`VERSION` fields are only added, and a reader passes over
those that it does not know.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hasten.anatomy import parts
from hasten.errors import HastenError
from hasten.trace import Trace, Transcript

VERSION = 1

MODEL_CHARS = 128  # of a client's text, which need not be a model's name

#: How each line of the log begins; nothing inside of a line can look like it, as quotes are escaped there.
_BEGIN = b'{"v":'


class Discarded(msgspec.Struct):
    """An answer that was paid for and not served."""

    model: str
    input_tokens: int
    output_tokens: int


class Record(msgspec.Struct, omit_defaults=True):
    """What is told of a request; durations in milliseconds. Nothing of its texts unless asked, no header."""

    v: int
    time: datetime  # of the first byte
    id: str
    endpoint: str
    status: int
    duration_ms: float
    tenant: str = ""
    model: str = ""
    served_model: str = ""
    engine: str = ""
    provider: str = ""
    stream: bool = False
    attempts: int = 0
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    token_events: int = 0
    tokens_estimated: bool = False
    cost: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    request_bytes: int | None = None
    messages: int | None = None
    tools: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    n: int | None = None
    conversation: str | None = None
    prefix: list[int] = []
    cache: str = ""
    cache_why: str = ""
    route: str = ""
    complexity: float | None = None
    side: str = ""
    reasons: list[str] = []
    discarded: list[Discarded] = []
    stages_ms: dict[str, float] = {}
    request: str | None = None
    answer: str | None = None
    cut: bool = False


def record_of(trace: Trace, transcript: Transcript | None = None) -> Record:
    """Return the record of ``trace``, with what the ``transcript`` may tell."""
    wall = datetime.fromtimestamp(trace.wall, UTC)
    # One by one: that takes a third of what keywords take.
    made = Record(VERSION, wall, trace.id, trace.endpoint, trace.status, _ms(trace.duration))
    made.tenant = trace.tenant
    made.model = trace.model[:MODEL_CHARS]
    if trace.served_model != trace.model:
        made.served_model = trace.served_model
    made.engine = trace.engine
    made.provider = trace.provider
    made.stream = trace.stream
    made.attempts = trace.attempts
    if trace.t_first is not None:
        ttft, tpot = trace.ttft, trace.tpot
        made.ttft_ms = None if ttft is None else _ms(ttft)
        made.tpot_ms = None if tpot is None else _ms(tpot)
    made.input_tokens = trace.input_tokens
    made.output_tokens = trace.output_tokens
    made.cached_tokens = trace.cached_tokens
    made.token_events = trace.tokens_seen
    made.tokens_estimated = trace.estimated
    made.cost = trace.cost
    made.finish_reason = trace.finish_reason
    made.error = trace.error
    made.cache = trace.cache
    made.cache_why = trace.cache_why
    made.route = trace.way
    if trace.complexity is not None:
        made.complexity = round(trace.complexity, 4)
    made.side = trace.side
    made.reasons = trace.reasons
    if trace.discarded:
        made.discarded = [Discarded(*answer) for answer in trace.discarded]
    made.stages_ms = {stage: _ms(seconds) for stage, seconds in parts(trace).items()}
    asked = trace.asked
    if asked is not None:
        made.request_bytes, made.messages, made.tools = asked.bytes, asked.messages, asked.tools
        made.max_tokens, made.temperature = asked.max_tokens, asked.temperature
        made.seed, made.n = asked.seed, asked.n
    if transcript is not None:
        if (texts := transcript.texts()) is not None:
            made.request, made.answer, made.cut = texts
        if (prefix := transcript.prefix()) is not None:
            made.conversation, made.prefix = prefix
    return made


def _ms(seconds: float) -> float:
    return int(seconds * 1e6 + 0.5) / 1e3  # a fifth of what round() takes


class Reading:
    """The records of a log, in the order in which they were written. ``skipped``: what could not be read, so far.

    ``path``: a file of JSON lines (``.gz`` too), one of Parquet, or a folder of them.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.skipped = 0
        self._records = self._read()

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        return next(self._records)

    def _read(self) -> Iterator[Record]:
        try:
            if not self.path.is_dir():
                yield from self._file(self.path)
                return
            for path in sorted(self.path.glob("*.parquet")) or sorted(self.path.glob("*.jsonl*")):
                yield from self._file(path)
        except OSError as exc:
            raise HastenError(f"{exc.filename or self.path} cannot be read: {exc.strerror or exc}") from None

    def _file(self, path: Path) -> Iterator[Record]:
        if path.suffix == ".parquet":
            yield from self._parquet(path)
        elif path.suffix == ".gz":
            with gzip.open(path) as packed:
                yield from self._lines(packed)
        else:
            with path.open("rb") as file:
                yield from self._lines(file)

    def _lines(self, lines: Iterable[bytes]) -> Iterator[Record]:
        for line in lines:
            found = _decoded(line)
            if found is None:
                if not line.strip():
                    continue
                # A piece of a line, as of a full disk or a killed process; another worker's line may stand behind it.
                self.skipped += 1
                found = _decoded(line[max(line.rfind(_BEGIN), 0) :])
            if found is not None:
                yield found

    def _parquet(self, path: Path) -> Iterator[Record]:
        try:
            from hasten.measure.parquet import rows
        except ImportError:
            raise HastenError(f"{path}: pyarrow is not installed: pip install 'hasten[parquet]'") from None
        try:
            for row in rows(path):
                yield msgspec.convert(row, Record)
        except (ValueError, msgspec.ValidationError):  # no Parquet, or somebody else's
            self.skipped += 1
        except OSError as exc:  # without a number it is Arrow's own: the file is damaged
            if exc.errno is not None:
                raise
            self.skipped += 1

    def __repr__(self) -> str:
        return f"<Reading {self.path}, {self.skipped} skipped>"


def read(path: str | Path) -> Reading:
    """Return an iterator over the records at ``path``, which passes over torn lines and counts them as ``skipped``.

    Iterating raises :class:`~hasten.errors.HastenError` if the file cannot be read at all.
    """
    return Reading(path)


_decoder = msgspec.json.Decoder(Record)


def _decoded(line: bytes) -> Record | None:
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
