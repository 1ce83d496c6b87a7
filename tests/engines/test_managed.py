"""The supervisor with real child processes, and its backoff without any."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from hasten.engines.managed import (
    GIVE_UP,
    HOPELESS,
    LINE,
    TAIL,
    Backoff,
    ManagedProcess,
    free_port,
    port_is_free,
)
from hasten.errors import Unavailable

#: Answers 200 to everything on the port in argv[1].
FOREIGN = """
import os, sys, threading, http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *a): pass
"""
#: And ends with its standard input.
SERVER = (
    FOREIGN
    + """
def leash():
    while os.read(0, 100): pass
    os._exit(0)
threading.Thread(target=leash, daemon=True).start()
"""
)
RUN = "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n"
SERVE = SERVER + RUN
#: One that takes no notice of its standard input.
FOREIGN += RUN


Run = Callable[[Coroutine[None, None, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run])
def run(request: pytest.FixtureRequest) -> Run:
    runner: Run = request.param
    return runner


class Script:
    name = "script"
    ready_path = "/health"

    def __init__(self, code: str, *before: str) -> None:
        self.code = code
        self.before = before

    def command(self, port: int) -> list[str]:
        return [*self.before, sys.executable, "-c", self.code, str(port)]

    def env(self) -> dict[str, str]:
        return {"SCRIPT": "yes"}

    def base_url(self, port: int) -> str:
        return f"http://127.0.0.1:{port}/v1"


LEASH = (sys.executable, "-m", "hasten.engines.leash", "--")


@contextlib.asynccontextmanager
async def managed(
    recipe: Script, on_change: Callable[[ManagedProcess], None] | None = None, start_timeout: float = 20.0
) -> AsyncIterator[ManagedProcess]:
    backoff = Backoff(first=0.01, most=0.05)
    process = ManagedProcess(recipe, on_change, start_timeout=start_timeout, backoff=backoff)
    process.start()
    try:
        yield process
    finally:
        await process.stop(grace=2.0)


async def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_becomes_ready_and_stops(run: Run) -> None:
    states: list[str] = []

    async def main() -> None:
        async with managed(Script(SERVE), lambda process: states.append(process.state)) as process:
            assert process.base_url is None
            await process.ready(20)
            pid = process.pid
            assert pid is not None
            assert os.getpgid(pid) == pid != os.getpgid(0)
            assert process.base_url == f"http://127.0.0.1:{process.port}/v1"
            assert repr(process) == f"<ManagedProcess script ready pid={pid} port={process.port} 0 restarts>"
            await process.stop()
            assert not alive(pid)
            assert (process.pid, process.base_url, process.state) == (None, None, "stopped")
            with pytest.raises(Unavailable, match="stopped"):
                await process.ready(1)

    run(main())
    assert states[0] == "starting"
    assert states[-3:-1] == ["ready", "stopped"]


def test_is_restarted_on_the_same_port_after_a_crash(run: Run) -> None:
    states: list[str] = []

    async def main() -> None:
        async with managed(Script(SERVE), lambda process: states.append(process.state)) as process:
            await process.ready(20)
            first, port = process.pid, process.port
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await until(lambda: process.state != "ready")
            assert "SIGKILL" in process.reason
            await process.ready(20)
            assert process.pid != first
            assert (process.port, process.restarts) == (port, 1)

    run(main())
    assert [s for s, t in zip(states, ["", *states], strict=False) if s != t] == [
        "starting", "ready", "backoff", "starting", "ready", "stopped",
    ]  # fmt: skip


def test_takes_another_port_when_its_own_is_taken_meanwhile(run: Run) -> None:
    async def main() -> None:
        ports: list[int] = []
        async with managed(Script(SERVE), lambda process: ports.append(process.port)) as process:
            await process.ready(20)
            pid, port = process.pid, process.port
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            # The state changes before the next start: that is when the port is free, and taken.
            thief = socket.socket()
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

            def steal(process: ManagedProcess) -> None:
                ports.append(process.port)
                if process.state == "backoff":
                    thief.bind(("127.0.0.1", port))
                    thief.listen()

            process._on_change = steal
            with thief:
                os.kill(pid, signal.SIGKILL)
                await until(lambda: process.restarts)
                await process.ready(20)
                assert process.port != port
                assert ports[-1] == process.port

    run(main())


def test_a_crash_loop_is_given_up_with_what_the_child_said(run: Run) -> None:
    async def main() -> None:
        async with managed(Script("import sys; print('no such device'); sys.exit(3)")) as process:
            with pytest.raises(Unavailable, match=r"(?s)failed: it ended with status 3.*no such device"):
                await process.ready(30)
            assert process.state == "failed"
            assert process.restarts == GIVE_UP - 1

    run(main())


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (Script(f"import sys; print('mend it'); sys.exit({HOPELESS})"), f"status {HOPELESS}.*mend it"),
        (Script("", "/no/such/program"), "cannot be started"),
        (Script("", *LEASH, "/no/such/program"), "status 127"),
    ],
)
def test_hopeless_starts(run: Run, recipe: Script, reason: str) -> None:
    async def main() -> None:
        async with managed(recipe) as process:
            with pytest.raises(Unavailable, match=f"(?s){reason}"):
                await process.ready(30)

    run(main())


def test_a_child_that_does_not_become_ready_is_ended(run: Run) -> None:
    async def main() -> None:
        async with managed(Script("import time; time.sleep(60)"), start_timeout=0.5) as process:
            with pytest.raises(Unavailable, match="starting"):
                await process.ready(0.01)
            await until(lambda: process.restarts)
            assert "not ready after 0.5 s" in process.reason

    run(main())


def test_output_never_blocks_the_child_and_its_end_is_kept(run: Run) -> None:
    noise = "for i in range(40000): print('line', i)\nprint('x' * 300000)\nprint('end', flush=True)\n"

    async def main() -> None:
        async with managed(Script(SERVER + noise + SERVE)) as process:
            await process.ready(20)
            assert process.tail[-1] == "end"
            assert len(process.tail) == TAIL
            assert max(map(len, process.tail)) <= LINE

    run(main())


def test_a_child_that_ignores_sigterm_is_killed(run: Run) -> None:
    code = SERVER + "import signal; signal.signal(15, signal.SIG_IGN)\n" + SERVE

    async def main() -> None:
        async with managed(Script(code)) as process:
            await process.ready(20)
            pid, began = process.pid, time.monotonic()
            assert pid is not None
            await process.stop(grace=0.2)
            assert not alive(pid)
            assert 0.2 <= time.monotonic() - began < 5.0

    run(main())


def test_stop_before_start_and_twice(run: Run) -> None:
    async def main() -> None:
        process = ManagedProcess(Script(SERVE))
        await process.stop()
        process.start()
        await process.stop()
        await process.stop()
        process.start()
        await process.ready(20)
        await process.stop()
        assert process.state == "stopped"

    run(main())


def test_stop_at_any_moment_of_the_start_leaves_nothing(run: Run) -> None:
    def children() -> list[str]:
        return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()

    async def main() -> None:
        before = children()  # other tests' servers
        for turns in range(12):
            process = ManagedProcess(Script(SERVE))
            process.start()
            for _ in range(turns):
                await asyncio.sleep(0)
            await process.stop()
            assert process.pid is None
        assert not any(alive(int(child)) for child in children() if child not in before)

    run(main())


PARENT = """
import asyncio, sys
sys.path.insert(0, {here!r})
from tests.engines.test_managed import FOREIGN, LEASH, SERVE, Script
from hasten.engines.managed import ManagedProcess
async def main():
    process = ManagedProcess(Script({script}))
    process.start()
    await process.ready(30)
    print(process.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("script", ["SERVE", "FOREIGN, *LEASH"])
def test_no_orphan_when_the_parent_is_killed(script: str) -> None:
    code = PARENT.format(here=str(Path(__file__).parents[2]), script=script)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        children = Path(f"/proc/{child}/task/{child}/children").read_text().split()
        family = [child, *map(int, children)]
        assert len(family) == (2 if "LEASH" in script else 1)
        parent.kill()
        deadline = time.monotonic() + 1.0
        while any(map(alive, family)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(map(alive, family))


def test_the_leash_passes_sigterm_on_and_the_status_back() -> None:
    code = "import signal, sys, time; signal.signal(15, lambda *a: sys.exit(7)); print(1, flush=True); time.sleep(60)"
    command = [*LEASH, sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as leash:
        assert leash.stdout is not None
        leash.stdout.readline()
        leash.terminate()
        assert leash.wait(10) == 7


def test_free_port() -> None:
    port = free_port()
    assert port_is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not port_is_free(port)


# -- backoff ----------------------------------------------------------------------------------------


def test_backoff_doubles_to_its_bound_and_forgets_after_a_stable_time() -> None:
    now = [0.0]
    backoff = Backoff(first=1.0, most=10.0, stable=30.0, clock=lambda: now[0], rand=lambda: 0.0)
    assert [backoff.failed() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.ready()
    now[0] += 29.0
    assert backoff.failed() == 10
    backoff.ready()
    now[0] += 30.0
    assert backoff.failed() == 1
    now[0] += 1000.0
    assert backoff.failed() == 2, "time that it was not ready does not count"


@given(st.integers(1, 5000), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_within_its_bounds(failures: int, jitter: float) -> None:
    backoff = Backoff(first=0.2, most=30.0, rand=lambda: jitter)
    backoff.failures = failures - 1
    assert 0.1 <= backoff.failed() <= 30.0
