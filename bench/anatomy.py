"""Whether the anatomy is right under load: a delay is put in one place after the other, and looked for.

    python bench/anatomy.py [--clients 32] [--requests 200] [--delay-ms 100]

Who delays a request writes down how long that really took, by its own clock. Of each stage that must be found, request
by request: the median of the differences within 2 ms or 2% of the delay. The stages must add up to what the client
measured, the median of those differences within 2 ms or 1%. Client, gateway and engines are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import socket
import sys
import tempfile
import termios
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any, NamedTuple

import msgspec
import trustme
from processes import Child, free_port

BIG = {"tokens": ["x" * 6_000], "repeat": 150}  # a stream that does not fit into sockets
MOST = 0.002  # seconds by which a median may be off, or:
SHARE, WHOLE = 0.02, 0.01  # ... of a stage's delay, of the client's total


class Case(NamedTuple):
    """What is done to requests, and what is to be found: of each stage the delay to look for, and what the engine
    tells of it, seconds (``generate`` less what it tells is its queue)."""

    name: str
    stream: bool
    stages: tuple[str, ...]
    model: str = "m"
    script: dict[str, Any] | None = None
    pause: float = 0.0  # before the second half of the request
    reads_after: float = 0.0  # the answer
    cached: bool = False  # the store is asked
    clients: int = 1000  # at most: where more would be a queue of its own
    told: tuple[float, float | None] | None = None  # the engine's own prefill and decode


class Asked(NamedTuple):
    """One request: what the client measured, what was put where, what the gateway noted. Seconds."""

    total: float
    put: dict[str, float]
    found: dict[str, float]


def cases(delay: float) -> list[Case]:
    """Return the cases, for a delay in seconds."""
    half, gap = delay / 2, delay / 10
    told = {"prompt_ms": delay * 1e3, "predicted_ms": delay * 1e3}
    streamed = {"ttft": delay, "itl": gap}
    made = []
    for stream in (False, True):
        made += [
            Case("client sends slowly", stream, ("accept",), pause=delay),
            Case("slow store", stream, ("cache",), cached=True),
            Case("slow embedder", stream, ("named",), "named", clients=16),
            Case("slow TLS handshake", stream, ("connect",), "connect", clients=8),
            Case("failing engine", stream, ("retry",), "retry"),
            Case("weak tier fails", stream, ("cascade",), "cascade"),
        ]
    three = ("engine_queue", "prefill", "decode")
    made += [
        Case("engine, nothing told", False, ("generate",), script={"ttft": delay}),
        Case(
            "engine tells", False, three, script={"ttft": 2.5 * delay, "timings": told}, told=(delay, delay)
        ),
        Case("engine", True, ("prefill", "decode"), script=streamed),
        Case(
            "engine tells",
            True,
            three,
            script={**streamed, "ttft": 1.5 * delay, "timings": told},
            told=(delay, None),
        ),
        Case(
            "all at once",
            True,
            ("accept", "cache", "prefill", "decode"),
            script=streamed,
            pause=half,
            cached=True,
        ),
        Case("client reads slowly", True, ("client",), script=BIG, reads_after=10 * delay, clients=4),
    ]
    return made


def as_stages(case: Case, put: dict[str, float]) -> dict[str, float]:
    """Return what an engine put there, under the names that it is to be found by."""
    put = dict(put)
    if case.name in ("failing engine", "weak tier fails"):
        put[case.stages[0]] = put.pop("failed")
    if case.told is not None:
        prefill, decode = case.told
        waited = put.pop("prefill") if case.stream else put.pop("generate")
        put["prefill"] = prefill
        if decode is not None:
            put["decode"] = decode
        put["engine_queue"] = waited - prefill - (decode or 0.0)
    return put


def request(case: Case, id: str) -> bytes:
    """Return the bytes of one request."""
    body: dict[str, Any] = {"model": case.model, "stream": case.stream}
    body["messages"] = [{"role": "user", "content": f"Hello {id}"}]
    if case.script is not None:
        body["x_script"] = case.script
    text = json.dumps(body).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: bench", f"x-request-id: {id}", "connection: close"]
    lines += [f"content-length: {len(text)}", *([] if case.cached else ["x-hasten-cache: bypass"]), "", ""]
    return "\r\n".join(lines).encode() + text


async def ask(port: int, case: Case, id: str) -> tuple[float, dict[str, float]]:
    """Send one request on a new connection; return the seconds from its first byte to its answer's last, and what this
    client put there."""
    data = request(case, id)
    put = {}
    sock = socket.socket()
    if case.reads_after:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=32768)
    since = last = perf_counter()
    if case.pause:
        writer.write(data[:-20])
        await asyncio.sleep(case.pause)
        put["accept"] = perf_counter() - since
        writer.write(data[-20:])
    else:
        writer.write(data)
    status = await reader.readline()
    if case.reads_after:
        put["client"] = await hold(sock, case.reads_after)
    while await reader.read(2**18):
        last = perf_counter()
    writer.close()
    if b" 200 " not in status:
        raise RuntimeError(f"{case.name}: {status!r}")
    return last - since, put


async def hold(sock: socket.socket, seconds: float) -> float:
    """Read nothing; return for how long nothing more could be sent, which is ``seconds`` or a little less."""
    full, waiting = perf_counter(), b""
    end = full + seconds
    while perf_counter() - full < 0.05:  # later the sender probes
        now = fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0")
        if now != waiting:
            full, waiting = perf_counter(), now
        await asyncio.sleep(0.002)
    await asyncio.sleep(max(0.0, end - perf_counter()))
    return perf_counter() - full


async def run(port: int, case: Case, number: int, clients: int, requests: int) -> dict[str, Asked]:
    """Send the requests of one case, ``clients`` at a time; return what the client knows of each, by id."""
    if clients > case.clients:
        clients, requests = case.clients, requests * case.clients // clients
    found: dict[str, Asked] = {}
    ids = iter([f"case{number}-{i}" for i in range(requests)])

    async def client(wait: float) -> None:
        await asyncio.sleep(wait)  # not all in step
        for id in ids:
            found[id] = Asked(*await ask(port, case, id), {})

    await asyncio.gather(*(client(0.003 * i) for i in range(clients)))
    return found


def gather(folder: Path, case: Case, asked: dict[str, Asked]) -> list[Asked]:
    """Add what the others wrote down."""
    for path in folder.glob("*.put"):
        for line in path.read_bytes().splitlines():
            entry = msgspec.json.decode(line)
            if (one := asked.get(entry.pop("id"))) is not None:
                one.put.update(entry)
    for line in (folder / "access.log").read_bytes().splitlines():
        entry = msgspec.json.decode(line)
        if (one := asked.get(entry["id"])) is not None:
            one.found.update({stage: ms / 1e3 for stage, ms in entry["stages_ms"].items()})
    return [Asked(one.total, as_stages(case, one.put), one.found) for one in asked.values()]


def report(case: Case, asked: list[Asked]) -> tuple[list[str], bool]:
    """Return the rows of a case, and whether all of it is within the bars."""
    rows, good = [], True
    total = median([one.total for one in asked])
    off = [sum(one.found.values()) - one.total for one in asked]
    good &= abs(median(off)) <= max(MOST, WHOLE * total)
    rest = median([sum(s for stage, s in one.found.items() if stage not in case.stages) for one in asked])
    for i, stage in enumerate(case.stages):
        put = median([one.put[stage] for one in asked])
        found = [one.found.get(stage, 0.0) for one in asked]
        apart = [have - one.put[stage] for have, one in zip(found, asked, strict=True)]
        fits = abs(median(apart)) <= max(MOST, SHARE * put)
        good &= fits
        far = sorted(map(abs, apart))
        shown = [put, median(found), median(apart), far[-(-len(far) * 99 // 100) - 1], far[-1]]
        shown += [rest, total, median(off)] if i == 0 else []
        figures = [f"{seconds * 1e3:.1f}" for seconds in shown] + [""] * (8 - len(shown))
        name = f"{case.name}, {'streamed' if case.stream else 'whole'}, {len(asked)}" if i == 0 else ""
        rows.append("| " + " | ".join([name, f"`{stage}`" + ("" if fits else " (off)"), *figures]) + " |")
    return rows, good


def serve(folder: Path, delay: float, stack: ExitStack) -> int:
    """Start engines and gateway; return the gateway's port."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    ports = [free_port() for _ in range(4)]
    script = Path(__file__).with_name("anatomy_serve.py")
    wait: Callable[[int], str] = "http://127.0.0.1:{}".format
    for role, page in (("engines", f"{wait(ports[0])}/v1/models"), ("gateway", f"{wait(ports[3])}/health")):
        command = [sys.executable, str(script), role, str(folder), str(delay), *map(str, ports)]
        child = stack.enter_context(Child(command, "0,1", folder / f"{role}.log"))
        child.wait_ready(urllib.request.Request(page), 30)
    return ports[3]


def main() -> int:
    """Run all cases and print the table; 1 if a bar was missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=200, help="a case (default 200)")
    parser.add_argument("--delay-ms", type=float, default=100.0)
    args = parser.parse_args()
    delay = args.delay_ms / 1e3
    missed = 0
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        port = serve(folder, delay, stack)
        heads = ("case, requests", "stage", "put there", "found", "apart", "p99", "worst", "other stages")
        print("| " + " | ".join([*heads, "client's total", "sum − total"]) + " |")
        print("|---|---|" + "---:|" * 8)
        for number, case in enumerate(cases(delay)):
            asyncio.run(run(port, case, -1 - number, args.clients, args.clients))  # warm
            asked = asyncio.run(run(port, case, number, args.clients, args.requests))
            sleep(1.0)  # the log is written a few times a second
            rows, good = report(case, gather(folder, case, asked))
            missed += not good
            print("\n".join(rows), flush=True)
    print(f"\ncases off: {missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
