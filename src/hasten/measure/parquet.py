"""The request log as Parquet files, and these read back. Imported only where pyarrow (extra ``parquet``) is there.

The lines that the log writes anyway are what Arrow parses into columns: that, and writing them, is done by C++ without
the interpreter's lock, so that no request waits for it. Columns of Python values would take the lock for milliseconds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from hasten.anatomy import STAGES
from hasten.measure.record import Record

GROUP_BYTES = 8 * 1024 * 1024  # of lines, that are held for one row group
GROUP_SECONDS = 60.0
FILE_BYTES = 128 * 1024 * 1024
_PLAIN = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", "UTC"),
}
_ALIKE = [
    "endpoint",
    "tenant",
    "model",
    "served_model",
    "engine",
    "provider",
    "finish_reason",
    "error",
    "cache",
]


def _type(hint: Any) -> pa.DataType:
    """Return the column's type for a field of a record."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    if get_origin(hint) is list:
        return pa.list_(_type(kinds[0]))
    if get_origin(hint) is dict:  # of stages
        return pa.struct([(stage, pa.float64()) for stage in STAGES])
    if issubclass(kinds[0], msgspec.Struct):
        return pa.struct([(name, _type(inner)) for name, inner in get_type_hints(kinds[0]).items()])
    return _PLAIN[kinds[0]]


SCHEMA = pa.schema([(name, _type(hint)) for name, hint in get_type_hints(Record).items()])


class Parquet:
    """Writes files of up to ``seconds`` or :data:`FILE_BYTES` to a folder, each complete once it has its name.

    See :class:`hasten.measure.sinks.Sink`. A file that cannot be written to its end is given up, with all its rows.
    """

    def __init__(
        self,
        folder: str | Path,
        seconds: float,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
    ) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(exist_ok=True)
        self._seconds = seconds
        self._clock = clock
        self._wall = wall
        self._number = 0
        self._lines = pa.BufferOutputStream()
        self._rows = 0  # among the lines
        self._since = 0.0  # when the first of them came
        self._writer: pq.ParquetWriter | None = None
        self._part = self._path = self._folder
        self._opened = 0.0
        self._in_file = 0  # rows
        probe = self._folder / f".probe-{os.getpid()}"  # to be told at the start
        probe.touch()
        probe.unlink()

    def write(self, lines: list[bytes]) -> int:
        """See :class:`Sink`."""
        if not self._rows:
            self._since = self._clock()
        self._lines.write(b"\n".join(lines) + b"\n")
        self._rows += len(lines)
        return self.tick()

    def tick(self) -> int:
        """See :class:`Sink`."""
        now = self._clock()
        ends = self._writer is not None and now - self._opened >= self._seconds
        wait = min(GROUP_SECONDS, self._seconds)
        lost = 0
        if self._rows and (ends or now - self._since >= wait or self._lines.tell() >= GROUP_BYTES):
            lost = self._flush()
        if self._writer is not None and (ends or self._part_bytes() >= FILE_BYTES):
            lost += self._finish()
        return lost

    def close(self) -> int:
        """See :class:`Sink`."""
        lost = self._flush() if self._rows else 0
        return lost + self._finish()

    def _flush(self) -> int:
        """Write the lines as one row group."""
        data, rows = self._lines.getvalue(), self._rows
        self._lines, self._rows = pa.BufferOutputStream(), 0
        try:
            table = pa.concat_tables([SCHEMA.empty_table(), *tables(data)])
            if self._writer is None:
                self._open()
            assert self._writer is not None
            self._writer.write_table(table)
        except (OSError, pa.ArrowException):
            return rows + self._give_up()
        self._in_file += table.num_rows
        return rows - int(table.num_rows)

    def _open(self) -> None:
        moment = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y%m%dT%H%M%S")
        while True:
            self._number += 1
            name = f"requests-{moment}-{os.getpid()}-{self._number:04d}.parquet"
            self._path, self._part = self._folder / name, self._folder / f".{name}.part"
            if self._path.exists():  # of a container with the same process id
                continue
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
                break
        self._writer = pq.ParquetWriter(self._part, SCHEMA, compression="zstd", use_dictionary=_ALIKE)
        self._opened = self._clock()

    def _finish(self) -> int:
        """Close the file and give it its name."""
        if self._writer is None:
            return 0
        try:
            self._writer.close()
            os.rename(self._part, self._path)
        except (OSError, pa.ArrowException):
            return self._give_up()
        self._writer, self._in_file = None, 0
        return 0

    def _give_up(self) -> int:
        """Remove a file that will never be complete; return how many rows it had."""
        lost, self._in_file = self._in_file, 0
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError, pa.ArrowException):
                writer.close()
        with contextlib.suppress(OSError):
            self._part.unlink()
        return lost

    def _part_bytes(self) -> int:
        try:
            return self._part.stat().st_size
        except OSError:
            return 0

    def __repr__(self) -> str:
        return f"<Parquet {self._folder}, {self._rows} rows held, {self._in_file} in {self._path.name}>"


def tables(lines: pa.Buffer) -> Iterator[pa.Table]:
    """Return JSON lines as tables: one, but for lines that do not fit, such as a seed of more than 64 bits.

    These are left out; what is before and behind them is found by halves.
    """
    try:
        yield pyarrow.json.read_json(
            pa.BufferReader(lines),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=lines.size + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=SCHEMA, unexpected_field_behavior="ignore", newlines_in_values=False
            ),
        )
    except pa.ArrowInvalid:
        middle = lines.to_pybytes().find(b"\n", lines.size // 2, -1) + 1
        if not middle:
            middle = lines.to_pybytes().rfind(b"\n", 0, lines.size // 2) + 1
        if middle:
            yield from tables(lines.slice(0, middle))
            yield from tables(lines.slice(middle))


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Return the rows of a file, without what is null; raise :class:`OSError` or :class:`ValueError`."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1024):
            for row in batch.to_pylist():
                found = {name: value for name, value in row.items() if value is not None}
                stages = found.get("stages_ms")
                if stages is not None:
                    found["stages_ms"] = {name: ms for name, ms in stages.items() if ms is not None}
                yield found
