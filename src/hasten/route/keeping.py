"""A learner's file: what was learnt outlives the process, and is the same in all workers.

The file is the state. Who has an example takes the lock, reads what others wrote, learns, writes, and tells the others
that there is something new to read. So there is one writer at a time, and nobody can miss anything for long.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hasten.route.learning import Learner, Learnt

log = logging.getLogger("hasten.route")

_read = msgspec.json.Decoder(Learnt).decode


class Kept:
    """A learner with its file; ``path`` ``None``: in memory only. ``changed`` is called after each change here."""

    def __init__(
        self, learner: Learner, path: Path | None = None, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.learner = learner
        self.path = path
        self._changed = changed
        self._seen: tuple[int, int, int] | None = None  # which version of the file is in memory
        self.load()

    def load(self) -> None:
        """Take over what is in the file, if it is another than before. A corrupt one is logged and set aside."""
        if self.path is None:
            return
        try:
            version = _version(self.path)
            if version == self._seen:
                return
            learnt = _read(self.path.read_bytes())
            learnt.check()
        except FileNotFoundError:
            return
        except OSError as exc:
            log.error("%s cannot be read, nothing learnt is taken over: %s", self.path, exc.strerror)
            return
        except (msgspec.DecodeError, ValueError) as exc:
            aside = self.path.with_name(self.path.name + ".corrupt")
            log.error("%s is corrupt (%s): set aside as %s; learning begins anew", self.path, exc, aside.name)
            with contextlib.suppress(OSError):
                self.path.replace(aside)
            return
        self._seen = version
        self.learner.take(learnt)

    def saw(self, p: float, fell_short: float) -> None:
        """Learn from an example, in all workers; see :meth:`Learner.saw`."""
        with self._alone():
            self.learner.saw(p, fell_short)

    def reset(self) -> None:
        """Forget all, in all workers."""
        with self._alone():
            self.learner.reset()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Begin with what the file holds, end with writing it, and keep others from doing so meanwhile."""
        with contextlib.ExitStack() as stack:
            if self.path is not None:
                try:
                    lock = stack.enter_context(open(f"{self.path}.lock", "a"))
                    fcntl.flock(lock, fcntl.LOCK_EX)
                except OSError as exc:
                    log.error("%s cannot be locked: %s", self.path, exc.strerror)
                self.load()
            yield
            if self.path is not None:
                try:
                    self._write(self.path)
                except OSError as exc:
                    log.error("%s cannot be written, nothing learnt is kept: %s", self.path, exc.strerror)
        if self.path is not None:
            self._changed()

    def _write(self, path: Path) -> None:
        new = path.with_name(path.name + ".new")
        new.write_bytes(msgspec.json.encode(self.learner.learnt()))
        os.replace(new, path)
        self._seen = _version(path)

    def __repr__(self) -> str:
        return f"<Kept {self.path} {self.learner!r}>"


def _version(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
