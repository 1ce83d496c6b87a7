"""Child processes of a benchmark: started pinned to a core, their CPU time read, always ended by their own id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds


class Failed(Exception):
    """Something cannot be installed, started or measured; the text is one line."""


def free_port() -> int:
    """Return a TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A running command with all its threads and children on ``core`` (or some: "0,1"), in a session of its own.

    Its output goes to ``log``. Use it as a context manager: the end ends the process and its children.
    """

    def __init__(
        self, command: Sequence[str], core: int | str, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self.name = log.stem
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Ask the process group to end; kill what is left after five seconds."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)

    def cpu_seconds(self) -> float:
        """Return user + system time so far, of all threads of the process and its living children.

        From ``/proc/PID/stat``, fields 14 and 15 (proc(5)), in steps of one clock tick.
        """
        return _session_ticks(self.process.pid) * TICK

    def settle(self, limit: float = 15.0) -> None:
        """Wait until the process has next to nothing left to do, at most ``limit`` seconds."""
        end = time.monotonic() + limit
        before = self.cpu_seconds()
        while time.monotonic() < end:
            time.sleep(0.25)
            now = self.cpu_seconds()
            if now - before <= 2 * TICK:
                return
            before = now

    def wait_ready(self, request: urllib.request.Request, limit: float) -> None:
        """Wait until ``request`` is answered with 200. Raises :class:`Failed` after ``limit`` seconds."""
        end = time.monotonic() + limit
        why = "no answer"
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}: {self.last_line()}")
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    answer.read()
                    return
            except urllib.error.HTTPError as exc:
                why = f"status {exc.code}"
                exc.close()
            except OSError as exc:
                why = str(exc)
            time.sleep(0.2)
        raise Failed(f"{self.name} was not ready within {limit:g} s ({why}): {self.last_line()}")

    def last_line(self) -> str:
        """Return the last line of what the process printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it printed nothing"


def _session_ticks(session: int) -> int:
    """Return the clock ticks of all living processes of ``session``."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_text(encoding="utf-8")
        except OSError:  # it ended meanwhile
            continue
        fields = stat.rpartition(")")[2].split()  # field 3 on
        if int(fields[3]) == session:
            total += int(fields[11]) + int(fields[12])
    return total
