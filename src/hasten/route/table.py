"""A fixed table of bytes that all workers of one machine map."""

from __future__ import annotations

import mmap
from pathlib import Path


def mapped(size: int, path: Path | None) -> mmap.mmap:
    """Return ``size`` bytes of the file ``path``, zeros where nothing was written; ``None``: this worker's own."""
    if path is None:
        return mmap.mmap(-1, size)
    with path.open("a+b") as file:
        file.truncate(size)  # to the same size by everyone, so nothing is lost by it
        return mmap.mmap(file.fileno(), size)
