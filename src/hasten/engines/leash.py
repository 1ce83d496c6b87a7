"""Keep a child process from outliving its parent, however the parent ends.

    python -m hasten.engines.leash -- vllm serve ...

The parent holds the other end of the child's standard input and never writes: when the parent dies, SIGKILL
included, the system closes it, and the child reads its end. Our own children call :func:`hold`; foreign commands
are run by this module, which passes SIGTERM on and takes its whole process group with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

#: Seconds that a foreign command has to end after its SIGTERM, once the parent is gone.
GRACE = 0.5
#: ``PR_SET_PDEATHSIG`` in <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1


def hold(on_end: Callable[[], None]) -> None:
    """Call ``on_end`` in a thread of its own when standard input ends."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        on_end()

    threading.Thread(target=wait, name="leash", daemon=True).start()


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies: it works while Python's lock is held, too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run(command: list[str]) -> int:
    """Run ``command`` on the leash; returns its exit status as a shell would."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as exc:
        print(f"{command[0]}: {exc.strerror}", file=sys.stderr)
        return 127

    ending = threading.Event()

    def end() -> None:
        ending.set()
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        # The whole group: the command's own children, and this process.
        os.killpg(0, signal.SIGKILL)

    signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    hold(end)
    status = process.wait()
    if ending.is_set():
        signal.pause()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(run(sys.argv[sys.argv.index("--") + 1 :]))
