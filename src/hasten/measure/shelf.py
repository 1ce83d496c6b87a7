"""Where the workers of a machine leave each other their sealed slices: a file each, written once, read once by each.

A file is written under another name and then renamed, so nobody reads half a slice; nobody waits for anybody; a
frozen worker holds no one up, and what one that ended has left stays. A file's name says all there is to know about
it: ``ledger.width.slot.worker``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from hasten.measure.ledger import Sealed


class Shelf:
    """One worker's view of ``folder``. ``worker``: a name that no other one has, nor has had, without dots."""

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder = folder
        self._worker = worker
        self._seen: dict[str, set[str]] = {}  # by ledger
        folder.mkdir(exist_ok=True)

    def put(self, ledger: str, slices: list[Sealed]) -> None:
        """Leave the others what was sealed. Raises :class:`OSError`."""
        for width, slot, data in slices:
            path = self._folder / f"{ledger}.{width}.{slot}.{self._worker}"
            new = self._folder / f"new.{self._worker}"
            new.write_bytes(data)
            new.rename(path)

    def take(self, ledger: str, reach: Mapping[int, int]) -> Iterator[Sealed]:
        """Yield what others left since the last call, and remove what lies out of ``reach`` (by width, the oldest
        slice of use). Raises :class:`OSError`."""
        names = {path.name for path in self._folder.glob(f"{ledger}.*")}
        seen = self._seen[ledger] = self._seen.get(ledger, set()) & names
        for name in sorted(names):
            _, width, slot, worker = name.split(".")
            if int(slot) < reach[int(width)]:
                (self._folder / name).unlink(missing_ok=True)
            elif worker != self._worker and name not in seen:
                seen.add(name)
                with contextlib.suppress(FileNotFoundError):  # somebody else found it too old
                    yield Sealed(int(width), int(slot), (self._folder / name).read_bytes())

    def __repr__(self) -> str:
        return f"<Shelf {self._folder} of {self._worker}>"
