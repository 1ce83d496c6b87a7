"""What the workers of one machine tell each other: a ring of bytes in a file that all of them map.

To see that there is no news takes one look at memory and no system call. Who has not listened while the ring came
round has missed something, and is told so.
"""

from __future__ import annotations

import fcntl
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HEAD = 8  # how many bytes were ever written, a u64
SIZE = 1024 * 1024


class Board:
    """One worker's view of the ring; it hears what is told from now on. A message is a line, without its end."""

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._size = size
        self._file = path.open("a+b")
        self._file.truncate(_HEAD + size)  # to the same size by everyone, so nothing is lost by it
        view = memoryview(mmap.mmap(self._file.fileno(), _HEAD + size))
        self._written = view[:_HEAD].cast("Q")
        self._ring = view[_HEAD:]
        self._seen = self._written[0]

    @property
    def quiet(self) -> bool:
        """Whether nothing was told that has not been read."""
        return self._written[0] == self._seen

    def read(self) -> list[bytes] | None:
        """Return what the others told since the last call; ``None`` if part of it is gone."""
        with self._locked():
            return self._read()

    def tell(self, message: bytes) -> list[bytes] | None:
        """Tell the others; return what they told before it, as :meth:`read` does."""
        line = message + b"\n"
        with self._locked():
            news = self._read()
            at = self._seen % self._size
            if len(line) < self._size:  # of a longer one, that it was missed will be seen by its length
                rest = line[self._size - at :]
                self._ring[at : at + len(line) - len(rest)] = line[: self._size - at]
                self._ring[: len(rest)] = rest
            self._seen += len(line)
            self._written[0] = self._seen
        return news

    def _read(self) -> list[bytes] | None:
        start, end = self._seen, self._written[0]
        self._seen = end
        if end - start >= self._size:
            return None
        start, end = start % self._size, end % self._size
        ring = self._ring
        data = bytes(ring[start:end]) if start <= end else bytes(ring[start:]) + bytes(ring[:end])
        return data.split(b"\n")[:-1]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Leave; the file stays for the others."""
        self._file.close()

    def __repr__(self) -> str:
        return f"<Board {self._written[0]} bytes told, {self._seen} heard>"
