"""What it costs a request that others are told of it: p50, p99 and CPU time with each sink, against none.

    python bench/sinks.py [--rounds 12] [--cases jsonl,fifo] [--urgent]

A gateway a case, all up throughout, before nginx with a canned answer. They are asked in turns, in another order each
round, so that a drift of the machine weighs on all: one connection as fast as it goes, then a fixed rate with Poisson
arrivals, late ones counted from when they were due. Neighbours only ever add time, so of the rounds' figures the lower
quartile is taken; ``off`` runs twice, and the difference of the two is the noise that is left. The gateways and their
threads have one core, the client and the upstream the other. A case is a name and what it adds to the settings.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from candidates import MODEL
from command import attempt, say
from processes import Child, Failed, free_port
from upstream import Canned, compact

from hasten.bench.arrivals import poisson
from hasten.bench.stats import quantile

CONFIG = """\
engines: {{up: {{kind: openai, base_url: 'http://127.0.0.1:{upstream}/v1'}}}}
models: {{{model}: {{engines: [up]}}}}
cache: {{exact: false, semantic: false, coalesce: false}}
{more}
"""
PROMPT = "Tell me in short what this says and what should be done about it. " * 30  # 2 KB


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "fifo")
    return f"log: {{path: {folder}/fifo, max_pending: 500}}"


def hooked(folder: Path) -> str:
    (folder / "hooks.py").write_text(
        "import re\nCARD = re.compile(r'[0-9]{13,19}')\n"
        "def redact(record):\n"
        "    for name in ('request', 'answer'):\n"
        "        if name in record:\n"
        "            record[name] = CARD.sub('***', record[name])\n"
        "    return record\n"
    )
    return f"log: {{path: {folder}/hooked.jsonl, prompts: true, redact: 'hooks:redact'}}"


#: What a case adds to the settings; its files are in the folder.
CASES: dict[str, Callable[[Path], str]] = {
    "off": lambda folder: "log: {access: false}",
    "off again": lambda folder: "log: {access: false}",
    "jsonl": lambda folder: f"log: {{path: {folder}/plain.jsonl}}",
    "fifo": fifo,
    "full": lambda folder: "log: {path: /dev/full}",
    "parquet": lambda folder: f"log: {{format: parquet, path: {folder}/parquet, file_seconds: 5}}",
    "prompts": lambda folder: f"log: {{path: {folder}/prompts.jsonl, prompts: true}}",
    "hashes": lambda folder: f"log: {{path: {folder}/hashes.jsonl, hash_key: secret}}",
    "redact": hooked,
}


class Gateway:
    """A case that is up, and what was measured of it: a value a round."""

    def __init__(self, name: str, upstream: int, core: int, folder: Path) -> None:
        self.name = name
        self.port = free_port()
        config = folder / f"{name}.yaml"
        config.write_text(CONFIG.format(upstream=upstream, model=MODEL, more=CASES[name](folder)))
        words = [sys.executable, "-m", "hasten", "serve", str(config), "--port", str(self.port)]
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        self.child = Child(words, core, folder / f"{name}.log", {"PYTHONPATH": path})
        self.figures: dict[str, list[float]] = {}

    def ready(self) -> None:
        """Wait until it answers, and connect."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/ready")
        self.child.wait_ready(request, 60)
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = compact({"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 64})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n"
        self.request = f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()

    def ask(self) -> None:
        """Send one request and wait for all of its answer."""
        self.socket.sendall(self.request)
        data = self.socket.recv(65536)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self.socket.recv(65536)
        if not data.startswith(b"HTTP/1.1 200"):
            raise Failed(f"{self.name}: {data[:80]!r}")
        left = end + 4 + int(data[: end + 2].lower().partition(b"content-length: ")[2].split()[0]) - len(data)
        while left > 0:
            left -= len(self.socket.recv(65536))

    def add(self, figure: str, value: float) -> None:
        self.figures.setdefault(figure, []).append(value)

    def took(self, way: str, seconds: list[float]) -> None:
        ordered = sorted(seconds)
        self.add(f"{way} p50", quantile(ordered, 0.5) * 1e3)
        self.add(f"{way} p99", quantile(ordered, 0.99) * 1e3)

    def dropped(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as page:
            text = page.read().decode()
        found = re.findall(r"^hasten_request_log_dropped_total\S* (\S+)$", text, re.MULTILINE)
        return int(sum(map(float, found)))


def closed(gateway: Gateway, seconds: float, think: float = 0.0) -> Iterator[float]:
    """Ask one request after the other, ``think`` seconds apart; yield what each took."""
    end = time.perf_counter() + seconds
    while (since := time.perf_counter()) < end:
        gateway.ask()
        yield time.perf_counter() - since
        if think:
            time.sleep(think)


def paced(gateway: Gateway, seconds: float, rate: float, seed: int) -> Iterator[float]:
    """Ask at a rate; what is late because the one before took long counts from when it was due."""
    start = time.perf_counter()
    for at in poisson(rate, random.Random(seed)):
        if at > seconds:
            return
        since = start + at
        early = since - time.perf_counter()
        if early > 0:
            time.sleep(early)
            since = time.perf_counter()
        gateway.ask()
        yield time.perf_counter() - since


def measure(gateways: list[Gateway], args: argparse.Namespace) -> None:
    shuffle = random.Random(1)
    for number in range(args.rounds):
        for gateway in shuffle.sample(gateways, len(gateways)):
            for _ in closed(gateway, 0.1, args.think):
                pass
            before = gateway.child.cpu_seconds()
            took = list(closed(gateway, args.seconds / 4, args.think))
            time.sleep(0.4)  # what it does behind
            gateway.add("cpu us", (gateway.child.cpu_seconds() - before) / len(took) * 1e6)
            gateway.took("one", took)
            gateway.took("rate", list(paced(gateway, args.seconds, args.rate, number)))
            time.sleep(0.4)
        say(f"round {number + 1}/{args.rounds}")


def quiet(gateway: Gateway, figure: str) -> float:
    """Return the lower quartile over the rounds."""
    return quantile(sorted(gateway.figures[figure]), 0.25)


def show(gateways: list[Gateway], rate: float) -> None:
    base = gateways[0]
    print("Milliseconds, lower quartiles of the rounds; added: the difference to off.\n")
    print(f"| | one connection: p50 | p99 | added p99 | {rate:g}/s: p50 | p99 | added p99 ", end="")
    print("| CPU µs a request | added | dropped |\n|---|" + "---:|" * 9)
    for gateway in gateways:
        cells = [gateway.name]
        for figure, digits in (("one", 3), ("rate", 3), ("cpu us", 0)):
            if digits:
                cells.append(f"{quiet(gateway, f'{figure} p50'):.3f}")
                figure += " p99"
            cells.append(f"{quiet(gateway, figure):.{digits}f}")
            more = quiet(gateway, figure) - quiet(base, figure)
            cells.append("" if gateway is base else f"{more:+.{digits}f}")
        print(f"| {' | '.join(cells)} | {gateway.dropped():,} |")


def urge(pid: int) -> None:
    """Let all threads of a process go before what others run on this machine, on any core (sched(7), SCHED_FIFO)."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), range(os.cpu_count() or 1))
        os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(1))


def run(args: argparse.Namespace) -> None:
    cores = sorted(os.sched_getaffinity(0))
    names = ["off", "off again", *(n for n in args.cases.split(",") if n and not n.startswith("off"))]
    if unknown := set(names) - set(CASES):
        raise Failed(f"there is no case {', '.join(unknown)}; there are: {', '.join(CASES)}")
    os.sched_setaffinity(0, {cores[-1]})
    with tempfile.TemporaryDirectory(prefix="hasten-sinks-") as place, ExitStack() as stack:
        folder = Path(place)
        canned = Canned(cores[-1], folder)
        stack.push(canned.child)
        canned.child.wait_ready(canned.direct.request(stream=False), 20)
        gateways = []
        for name in names:
            gateways.append(Gateway(name, canned.port, cores[0], folder))
            stack.push(gateways[-1].child)
        for gateway in gateways:
            gateway.ready()
        if args.urgent:
            for pid in (os.getpid(), canned.child.process.pid, *(g.child.process.pid for g in gateways)):
                urge(pid)
        measure(gateways, args)
        show(gateways, args.rate)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of a turn at the rate; a fourth as fast as it goes"
    )
    parser.add_argument(
        "--think", type=float, default=0.0, help="seconds between two requests of the first way"
    )
    parser.add_argument("--urgent", action="store_true", help="before all that others run here; needs root")
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second")
    parser.add_argument("--cases", default=",".join(CASES), help="default: %(default)s")
    args = parser.parse_args()
    sys.exit(attempt(lambda: run(args)))
