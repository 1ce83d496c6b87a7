"""Where the lines of the request log go. Called by its writer's thread, and may block as long as the disk does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Protocol

from hasten.errors import SettingsError
from hasten.settings import Log

FOLLOW_EVERY = 1.0  # seconds between two looks whether the file was moved away


class Sink(Protocol):
    """Each call returns how many records were lost."""

    def write(self, lines: list[bytes]) -> int:
        """Take records, a JSON object each, without an end of line."""

    def tick(self) -> int:
        """Do what is due. Called a few times a second."""

    def close(self) -> int:
        """Write what is held, and end."""


def open_sink(settings: Log) -> Sink:
    """Return what ``settings`` ask for; raise :class:`SettingsError` if it cannot be opened."""
    try:
        if settings.format == "jsonl":
            return JsonLines(settings.path)
        assert settings.path is not None
        from hasten.measure.parquet import Parquet

        return Parquet(settings.path, settings.file_seconds)
    except OSError as exc:
        raise _refused(settings, exc) from None
    except ImportError:
        raise SettingsError(["log.format: pyarrow is not installed: pip install 'hasten[parquet]'"]) from None


def try_sink(settings: Log) -> None:
    """Find out whether :func:`open_sink` would work for who runs this, and leave all files and folders as they are.

    Raises :class:`SettingsError` if it would not.
    """
    path = settings.path
    if path is None:
        return
    try:
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            _try_folder(os.path.dirname(os.path.realpath(path)))  # of a link that leads nowhere yet, there
            return
        if stat.S_ISDIR(mode):
            _try_folder(path)
        elif stat.S_ISFIFO(mode):  # opening it would wake its reader
            if not os.access(path, os.R_OK | os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError as exc:
        raise _refused(settings, exc) from None


def _try_folder(folder: str) -> None:
    with tempfile.TemporaryFile(dir=folder):  # on Linux one that never has a name
        pass


def _refused(settings: Log, exc: OSError) -> SettingsError:
    return SettingsError([f"log.path: {settings.path} cannot be opened: {exc.strerror}"])


class JsonLines:
    """Appends to a file, a pipe or (``path`` is ``None``) standard output, which several workers may share.

    To a file each write is one ``write(2)`` of whole lines, which Linux appends as one piece. A write that was cut
    short, by a full disk, is not gone on with, since another worker's may stand behind it: the line begins anew on a
    line of its own. A pipe would mix writes of more than 4 KiB, so there they take turns by a lock.
    """

    def __init__(self, path: str | None, clock: Callable[[], float] = monotonic) -> None:
        self._path = path
        self._clock = clock
        self._fd = self._open()
        mode = os.fstat(self._fd).st_mode
        self._shared_pipe = stat.S_ISFIFO(mode)
        self._follows = path is not None and stat.S_ISREG(mode)
        self._looked = clock()
        self._torn = False  # the last write ended inside of a line

    def write(self, lines: list[bytes]) -> int:
        """See :class:`Sink`."""
        self._follow()
        with self._alone():
            rest = lines
            while rest:
                data = b"\n" * self._torn + b"\n".join(rest) + b"\n"
                try:
                    written = os.write(self._fd, data)
                except OSError:  # a full disk, a closed pipe
                    return len(rest)
                if written == len(data):
                    self._torn = False
                    return 0
                if written == 0:
                    return len(rest)
                # Counting one byte on: a line that lacks its end alone is there.
                rest = rest[data.count(b"\n", 0, written + 1) - self._torn :]
                self._torn = data[written - 1 : written] != b"\n"
        return 0

    def tick(self) -> int:
        """See :class:`Sink`."""
        return 0

    def close(self) -> int:
        """See :class:`Sink`."""
        os.close(self._fd)
        return 0

    def _open(self) -> int:
        if self._path is None:
            return os.dup(sys.stdout.fileno())
        path = self._path
        # Opening a FIFO for writing waits for its reader; for both, it does not.
        mode = os.O_RDWR if os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode) else os.O_WRONLY
        return os.open(path, mode | os.O_APPEND | os.O_CREAT, 0o640)

    def _follow(self) -> None:
        """Open the file anew if it was renamed or removed, as logrotate does."""
        if not self._follows or self._clock() - self._looked < FOLLOW_EVERY:
            return
        self._looked = self._clock()
        with contextlib.suppress(OSError):  # its folder is gone, or full: the old file goes on
            if self._is_moved():
                old, self._fd = self._fd, self._open()
                self._torn = False
                os.close(old)

    def _is_moved(self) -> bool:
        assert self._path is not None
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except FileNotFoundError:
            return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._shared_pipe:
            yield
            return
        with contextlib.suppress(OSError):  # a system that cannot lock pipes
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def __repr__(self) -> str:
        return f"<JsonLines {self._path or 'stdout'}>"
