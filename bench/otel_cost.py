"""What the export of spans costs requests: the gateway without it, and with a collector that answers, freezes, is down.

    python bench/otel_cost.py [--rounds 4] [--seconds 3] [--rate 50] [--count 2000]

All run throughout and are measured in turns. Latencies are of requests one at a time, in turns, at a moderate rate. CPU
time is the gateway's own at full load, without the process that exports, which is given separately: it shares the
gateway's core here, is slower than it, and what it cannot take is dropped. Also the cost of the parts, in process.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import multiprocessing
import os
import random
import re
import socket
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec
from candidates import Hasten, Running, body
from processes import TICK, free_port
from upstream import Canned

from hasten.bench.stats import quantile
from hasten.measure.otel import frames
from hasten.measure.otel.sampling import Sampler
from hasten.measure.otel.spans import Spans, resource_of
from hasten.trace import Trace
from measure import CONNECTIONS, Bench

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Exporting(Hasten):
    """The gateway with the section ``otel``, if an endpoint is given."""

    def __init__(self, name: str, endpoint: str | None) -> None:
        self.name = name
        self._endpoint = endpoint

    def command(self, port: int, upstream: int, folder: Path) -> list[str]:
        own = folder / self.name
        own.mkdir()
        words = super().command(port, upstream, own)
        if self._endpoint is not None:
            with (own / "hasten.yaml").open("a") as config:
                config.write(f"otel: {{endpoint: '{self._endpoint}'}}\n")
        return words


def collect(port: int, core: int) -> None:
    """Answer every export with 200."""
    os.sched_setaffinity(0, {core})

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        await (await asyncio.start_server(serve, "127.0.0.1", port)).serve_forever()

    asyncio.run(run())


def counted(running: Running) -> dict[str, float]:
    """Return what became of requests' spans."""
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(
        r'^hasten_otel_(exported|dropped)_total(?:\{reason="(\w+)"\})? (\S+)', text, re.MULTILINE
    )
    return {reason or outcome: float(value) for outcome, reason, value in found}


def child_cpu(running: Running) -> float:
    """Return the CPU seconds of the gateway's children so far."""
    assert running.child is not None
    pid = running.child.process.pid
    total = 0
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK


def calm(running: list[Running], rate: float, count: int) -> None:
    """Ask one after the other, ``count`` times, each ``rate`` times a second: what the machine does weighs on all."""
    lines = {one.name: http.client.HTTPConnection("127.0.0.1", one.port) for one in running}
    took: dict[str, list[float]] = {one.name: [] for one in running}
    text, source = body(stream=False), random.Random(1)
    due = time.perf_counter()
    for _ in range(count):
        for one in source.sample(running, len(running)):
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due, time.perf_counter() - 0.1) + 1 / rate / len(running)
            before = time.perf_counter()
            lines[one.name].request("POST", "/v1/chat/completions", text, one.headers)
            answer = lines[one.name].getresponse()
            answer.read()
            took[one.name].append((time.perf_counter() - before) * 1e3)
            assert answer.status == 200
    for name, values in took.items():
        shown = {q: quantile(sorted(values), q) for q in (0.5, 0.9, 0.99)}
        print(f"{name}: " + ", ".join(f"p{q * 100:g} {value:.3f} ms" for q, value in shown.items()))


def compare(bench: Bench, rounds: int, rate: float, count: int) -> None:
    with ExitStack() as stack:
        canned = Canned(bench.cores[1], bench.folder)
        stack.push(canned.child)
        canned.child.wait_ready(canned.direct.request(stream=False), 20)
        port = free_port()
        collector = multiprocessing.Process(target=collect, args=(port, bench.cores[1]), daemon=True)
        collector.start()
        stack.callback(collector.terminate)
        frozen = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        candidates = [
            Exporting("off", None),
            Exporting("on", f"http://127.0.0.1:{port}"),
            Exporting("frozen", f"http://127.0.0.1:{frozen.getsockname()[1]}"),
            Exporting("down", f"http://127.0.0.1:{free_port()}"),
        ]
        running, skipped = bench.start(candidates, canned.port, stack, stream=False)
        assert not skipped, skipped
        time.sleep(3)  # until the children are up
        calm(running, rate, count)
        figures: dict[str, list[dict[str, float]]] = {one.name: [] for one in running}
        for number in range(rounds):
            for one in running[:: -1 if number % 2 else 1]:
                assert one.child is not None
                cpu, below = one.child.cpu_seconds(), child_cpu(one)
                busy = bench.load(one, CONNECTIONS, bench.seconds)
                requests = busy["requests"] or 1
                time.sleep(0.5)
                below = child_cpu(one) - below
                found = {
                    "us": (one.child.cpu_seconds() - cpu - below) / requests * 1e6,
                    "child_us": below / requests * 1e6,
                    "rps": requests / (busy["seconds"] or 1),
                }
                figures[one.name].append(found)
                print(
                    number + 1, one.name, {name: round(value, 3) for name, value in found.items()}, flush=True
                )
        for one in running:
            mine, off = figures[one.name], figures["off"]
            ratio = median(a["us"] / b["us"] for a, b in zip(mine, off, strict=True))
            shown = ", ".join(f"{name} {median(f[name] for f in mine):.3f}" for name in mine[0])
            print(f"{one.name}: {shown}; CPU {ratio:.3f} of off; {counted(one)}")


def parts(count: int = 5000) -> None:
    sampler, resource = Sampler(1.0), resource_of(None, {})
    traces = []
    for _ in range(count):
        trace = Trace(100.0)
        trace.endpoint, trace.status, trace.model, trace.engine, trace.served_model = (
            "chat",
            200,
            "m",
            "e",
            "m",
        )
        trace.provider, trace.stream, trace.attempts, trace.cache, trace.tenant = (
            "openai",
            True,
            1,
            "miss",
            "acme",
        )
        trace.t_first, trace.t_end, trace.output_tokens, trace.input_tokens = 100.2, 101.0, 50, 100
        trace.spans = [("accept", 100.0, 100.01), ("cache", 100.01, 100.02), ("upstream", 100.03, 100.2)]
        traces.append(trace)

    def timed(work: list[object]) -> str:
        return f"{(work[1] - work[0]) / count * 1e6:.2f} us"  # type: ignore[operator]

    before = time.process_time()
    for trace in traces:
        sampler.begin(trace)
    print("ids:", timed([before, time.process_time()]))
    for trace in traces:
        assert trace.context is not None
        call = trace.context.call("e", "openai", "m")
        call.start, call.end = 100.02, 101.0
    before = time.process_time()
    made = [
        frames.batch(traces[i : i + 100], {"e": ("http://vllm:8000/v1", None)}) for i in range(0, count, 100)
    ]
    print("encoding:", timed([before, time.process_time()]), f"{sum(map(len, made)) / count:.0f} bytes")
    before, spans = time.process_time(), 0
    for frame in made:
        batch = msgspec.msgpack.decode(frame[frames.LENGTH :], type=frames.Batch)
        for values in batch.records:
            spans += len([*Spans(frames.trace_of(values), batch.epoch, batch.engines, resource)])
    print("in the child, to spans:", timed([before, time.process_time()]), f"{spans / count:.0f} spans")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=50.0, help="requests/s of each, for the latencies")
    parser.add_argument("--count", type=int, default=2000, help="and how many")
    args = parser.parse_args()
    parts()
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, {cores[1]})
    with tempfile.TemporaryDirectory(prefix="hasten-bench-") as folder:
        compare(Bench(cores, Path(folder), args.seconds), args.rounds, args.rate, args.count)


if __name__ == "__main__":
    main()
