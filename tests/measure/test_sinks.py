"""What takes the log's lines: whole lines whatever the disk does, files that are complete once they have their name."""

from __future__ import annotations

import errno
import gzip
import multiprocessing
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.anatomy import STAGES
from hasten.errors import HastenError, SettingsError
from hasten.measure.record import Discarded, Record, read
from hasten.measure.sinks import JsonLines, Sink, try_sink
from hasten.settings import Log
from hasten.testing import FakeClock

NOW = datetime(2026, 11, 21, 18, 45, tzinfo=UTC)


def record(**fields: object) -> Record:
    given = {"v": 1, "time": NOW, "id": "a", "endpoint": "chat", "status": 200, "duration_ms": 1.5, **fields}
    return msgspec.convert(given, Record)


def line(**fields: object) -> bytes:
    return msgspec.json.encode(record(**fields))


counts = st.integers(0, 2**63 - 1)
amounts = st.floats(0, 1e12, allow_nan=False)
texts = st.text(max_size=30).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))
fields = st.fixed_dictionaries(
    {},
    optional={
        "time": st.datetimes(timezones=st.just(UTC), min_value=datetime(1971, 1, 1)),
        "id": texts,
        "duration_ms": amounts,
        "tenant": texts,
        "stream": st.booleans(),
        "ttft_ms": st.none() | amounts,
        "input_tokens": st.none() | counts,
        "temperature": st.none() | amounts,
        "seed": st.none() | st.integers(-(2**63), 2**63 - 1),
        "conversation": st.none() | texts,
        "prefix": st.lists(st.integers(0, 2**48), max_size=4),
        "reasons": st.lists(texts, max_size=3),
        "discarded": st.lists(st.builds(Discarded, texts, counts, counts), max_size=2),
        "stages_ms": st.dictionaries(st.sampled_from(STAGES), amounts),
        "request": st.none() | texts,
        "answer": st.none() | texts,
        "cut": st.booleans(),
    },
)
records = st.lists(st.builds(lambda given: record(**given), fields), min_size=1, max_size=8)


def written(sink: Sink, found: list[Record]) -> None:
    assert sink.write([msgspec.json.encode(one) for one in found]) == 0
    assert sink.close() == 0


@settings(max_examples=40, deadline=None)
@given(found=records)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, found: list[Record]) -> None:
    path = tmp_path_factory.mktemp("log") / "requests.jsonl"
    written(JsonLines(str(path)), found)
    reading = read(path)
    assert list(reading) == found
    assert reading.skipped == 0


@settings(max_examples=40, deadline=None)
@given(found=records)
def test_parquet_is_read_back(tmp_path_factory: pytest.TempPathFactory, found: list[Record]) -> None:
    parquet = pytest.importorskip("hasten.measure.parquet")
    folder = tmp_path_factory.mktemp("log")
    written(parquet.Parquet(folder, 60.0), found)
    reading = read(folder)
    assert list(reading) == found
    assert reading.skipped == 0


@settings(max_examples=40, deadline=None)
@given(found=records, cut=st.integers(1, 200))
def test_a_torn_line_takes_no_other_with_it(
    tmp_path_factory: pytest.TempPathFactory, found: list[Record], cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "requests.jsonl"
    whole = b"".join(msgspec.json.encode(one) + b"\n" for one in found)
    torn = line(id="torn", reasons=["x" * 100])[:cut]
    path.write_bytes(whole + torn)
    reading = read(path)
    assert list(reading) == found
    assert reading.skipped == 1
    path.write_bytes(torn + whole)  # another worker's lines stand right behind it
    reading = read(path)
    assert list(reading) == found
    assert reading.skipped == 1


def test_packed_files_and_folders_of_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line(id="1") + b"\n\n")
    (tmp_path / "a.jsonl.1.gz").write_bytes(gzip.compress(line(id="2") + b"\n"))
    assert [found.id for found in read(tmp_path)] == ["1", "2"]
    with pytest.raises(HastenError, match="cannot be read"):
        list(read(tmp_path / "nothing.jsonl"))


def test_fields_of_later_versions_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(line()[:-1] + b',"later":{"x":1}}\n')
    assert list(read(path)) == [record()]


class Disk:
    """An ``os.write`` with ``room`` bytes left."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.real = os.write

    def write(self, fd: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = self.real(fd, data[: self.room])
        self.room -= done
        return done


@pytest.mark.parametrize("room", range(0, 450, 7))
def test_a_full_disk_loses_whole_lines_and_no_later_ones(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "requests.jsonl"
    sink = JsonLines(str(path))
    disk = Disk(room)
    monkeypatch.setattr(os, "write", disk.write)
    lost = sink.write([line(id=str(i)) for i in range(4)])
    lost += sink.write([line(id="4")])
    disk.room = 10_000
    assert sink.write([line(id="5"), line(id="6")]) == 0
    sink.close()
    found = [one.id for one in read(path)]
    assert found[-2:] == ["5", "6"]
    assert len(found) + lost == 7
    assert found[:-2] == [str(i) for i in range(len(found) - 2)]


def test_a_write_that_was_cut_short_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "requests.jsonl"
    sink = JsonLines(str(path))
    real, sizes = os.write, iter([150, 10**6])
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: next(sizes)]))
    assert sink.write([line(id="1"), line(id="2")]) == 0
    sink.close()
    reading = read(path)
    assert [one.id for one in reading] == ["1", "2"]
    assert reading.skipped == 1


def _append(path: str, who: str, count: int, size: int) -> None:
    sink = JsonLines(path)
    for i in range(count):
        assert sink.write([line(id=f"{who}{i}", request=who * size)] * 2) == 0
    sink.close()


@pytest.mark.parametrize("fifo", [False, True], ids=["file", "pipe"])
def test_workers_do_not_mix_their_lines(fifo: bool, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    if fifo:
        os.mkfifo(path)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(str(path), who, 40, 9000)) for who in "abc"]
    data = b""
    reading = os.open(path, os.O_RDWR) if fifo else None  # read and write: it never ends
    for writer in writers:
        writer.start()
    if reading is not None:
        while data.count(b"\n") < 240:
            data += os.read(reading, 65536)
        os.close(reading)
        path.unlink()
        path.write_bytes(data)
    for writer in writers:
        writer.join(30)
        assert writer.exitcode == 0
    found = read(path)
    assert len(list(found)) == 240
    assert found.skipped == 0


# -- Parquet


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def parquet(tmp_path: Path, clock: FakeClock) -> Callable[..., Sink]:
    made = pytest.importorskip("hasten.measure.parquet")
    return lambda seconds=300.0: made.Parquet(tmp_path / "log", seconds, clock, lambda: NOW.timestamp())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "log").iterdir())


def test_a_file_has_its_name_once_it_is_complete(
    tmp_path: Path, clock: FakeClock, parquet: Callable[..., Sink]
) -> None:
    sink = parquet()
    stem = f"requests-20261121T184500-{os.getpid()}"
    for i in range(3):  # row groups of a minute each
        sink.write([line(id=str(i))])
        clock.advance(61)
        assert sink.tick() == 0
    assert names(tmp_path) == [f".{stem}-0001.parquet.part"]
    sink.write([line(id="3")])
    clock.advance(240)
    assert sink.tick() == 0
    assert names(tmp_path) == [f"{stem}-0001.parquet"]
    sink.write([line(id="4")])
    assert sink.close() == 0
    assert names(tmp_path) == [f"{stem}-0001.parquet", f"{stem}-0002.parquet"]
    assert [one.id for one in read(tmp_path / "log")] == list("01234")


def test_many_bytes_are_written_at_once(
    tmp_path: Path, parquet: Callable[..., Sink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hasten.measure.parquet.GROUP_BYTES", 10_000)
    monkeypatch.setattr("hasten.measure.parquet.FILE_BYTES", 1)
    sink = parquet()
    for i in range(40):
        sink.write([line(id=str(i), request="x" * 1000)])
    sink.close()
    assert len(names(tmp_path)) >= 4
    assert len(list(read(tmp_path / "log"))) == 40


def test_a_parquet_file_that_cannot_be_written_is_given_up(
    tmp_path: Path, clock: FakeClock, parquet: Callable[..., Sink], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    sink = parquet()
    sink.write([line(id="1")] * 3)
    clock.advance(61)
    assert sink.tick() == 0
    with monkeypatch.context() as patched:

        def full(*args: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(pq.ParquetWriter, "write_table", full)
        sink.write([line(id="2")] * 2)
        clock.advance(61)
        assert sink.tick() == 5
    assert names(tmp_path) == []
    sink.write([line(id="3")])
    assert sink.close() == 0
    assert [one.id for one in read(tmp_path / "log")] == ["3"]


@pytest.mark.parametrize("bad", [{0}, {4}, {9}, {2, 3, 7}, set(range(10))])
def test_a_number_that_does_not_fit_takes_no_other_record_with_it(
    bad: set[int], tmp_path: Path, parquet: Callable[..., Sink]
) -> None:
    sink = parquet()
    sink.write([line(id=str(i), seed=2**64 - 1 if i in bad else i) for i in range(10)])
    assert sink.close() == len(bad)
    assert [one.id for one in read(tmp_path / "log")] == [str(i) for i in range(10) if i not in bad]


def test_a_damaged_parquet_file_is_skipped(tmp_path: Path, parquet: Callable[..., Sink]) -> None:
    sink = parquet()
    sink.write([line(id=str(i)) for i in range(100)])
    sink.close()
    (good,) = (tmp_path / "log").iterdir()
    data = good.read_bytes()
    (tmp_path / "log" / "a.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "log" / "b.parquet").write_bytes(data[: len(data) // 2])
    (tmp_path / "log" / "c.parquet").write_bytes(data[:-60] + b"\xff" * 40 + data[-20:])
    reading = read(tmp_path / "log")
    assert len(list(reading)) == 100
    assert reading.skipped == 3


# -- whether it could be opened


def seen(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return all that is in a folder, with what a look may not change."""
    found = {path: path.lstat() for path in (folder, *folder.rglob("*"))}
    return {str(path): (s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in found.items()}


def test_trying_a_sink_leaves_everything_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text("{}\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "later")
    os.mkfifo(tmp_path / "pipe")
    before = seen(tmp_path)
    for name in ("old.jsonl", "new.jsonl", "link", "pipe"):
        try_sink(Log(path=str(tmp_path / name)))
    for name in ("folder", "new"):
        try_sink(Log(path=str(tmp_path / name), format="parquet"))
    try_sink(Log())
    assert seen(tmp_path) == before


def test_a_path_that_cannot_be_opened_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "later")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("listening")
        wrong = {
            "link": "No such file or directory",
            "loop": "Too many levels of symbolic links",
            "listening": "No such device or address",
            "x" * 300: "File name too long",
            "/proc/none.jsonl": "No such file or directory",  # of a file system that takes none
        }
        for path, why in wrong.items():
            with pytest.raises(SettingsError) as caught:
                try_sink(Log(path=path))
            assert caught.value.problems == [f"log.path: {path} cannot be opened: {why}"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_path_that_may_not_be_written_is_found(tmp_path: Path) -> None:
    file, folder, pipe = tmp_path / "file", tmp_path / "folder", tmp_path / "pipe"
    file.touch(0o400)
    folder.mkdir(0o500)
    os.mkfifo(pipe, 0o400)
    for path in (file, folder / "new", pipe):
        with pytest.raises(SettingsError, match="Permission denied"):
            try_sink(Log(path=str(path)))
    with pytest.raises(SettingsError, match="Permission denied"):
        try_sink(Log(path=str(folder), format="parquet"))
