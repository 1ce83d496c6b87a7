"""The measurements: load through wrk, streams through the bare client, CPU time from the system."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from candidates import MODEL, Candidate, Running, body
from processes import Child, Failed, free_port
from upstream import Canned

HERE = Path(__file__).parent
CONNECTIONS = 32
Figures = dict[str, float | None]

WRK = """
wrk.method = "POST"
{headers}
{script}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {{"requests": %d, "seconds": %.6f, "p50_ms": %.6f, "errors": %d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class Bench:
    """The two cores, the folder for files, and how long to measure (seconds).

    ``cores[0]`` is the gateway's, ``cores[1]`` is for the load generator and the upstream.
    """

    def __init__(self, cores: Sequence[int], folder: Path, seconds: int) -> None:
        self.cores = cores
        self.folder = folder
        self.seconds = seconds
        self.wrk = shutil.which("wrk")

    # -- whole answers

    def load(self, running: Running, connections: int, seconds: int) -> Figures:
        """Offer one whole (not streamed) request again and again; return what the generator reports."""
        return self.offer(running, f"wrk.body = [==[{body(stream=False)}]==]", [], connections, seconds)

    def offer(
        self, running: Running, script: str, options: Sequence[str], connections: int, seconds: int
    ) -> Figures:
        """Offer the requests that ``script`` makes in wrk, or ``options`` make in the project's own load generator."""
        if self.wrk is None:
            return self._offer_own(running, options, connections, seconds)
        path = self.folder / f"{running.name}.lua"
        headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in running.headers.items())
        path.write_text(WRK.format(headers=headers, script=script))
        words = [self.wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency"]
        text = self._generate([*words, "-s", str(path), running.url])
        line = next((line for line in text.splitlines() if line.startswith("RESULT ")), None)
        if line is None:
            raise Failed(f"wrk against {running.name} gave no result")
        found: Figures = json.loads(line[7:])
        return found

    def _offer_own(self, running: Running, options: Sequence[str], connections: int, seconds: int) -> Figures:
        words = [sys.executable, "-m", "hasten", "bench", running.url, "--no-stream", "--model", MODEL]
        words += ["-c", str(connections), "-d", str(seconds), *options, "--json", "-"]
        for name, value in running.headers.items():
            words += ["-H", f"{name}: {value}"]
        summary = json.loads(self._generate(words))["targets"][0]["summary"]
        return {
            "requests": summary["ok"],
            "seconds": summary["wall_s"],
            "p50_ms": summary["e2e_ms"] and summary["e2e_ms"]["p50"],
            "errors": summary["failed"],
        }

    def _generate(self, words: list[str]) -> str:
        done = subprocess.run(
            ["taskset", "-c", str(self.cores[1]), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=300,
        )
        return done.stdout

    def whole(self, running: Running, canned: Canned) -> Figures:
        """Measure one candidate once: CPU time a request and requests/s, then the latency at one connection.

        The requests that the CPU time is divided by are the chat completions that the upstream answered until the
        gateway has come to rest: it may go on with those that were under way when the load ended.
        """
        self.load(running, CONNECTIONS, 1)
        child = running.child
        if child is not None:
            child.settle()
        cpu, served = child.cpu_seconds() if child else 0.0, canned.served()
        busy = self.load(running, CONNECTIONS, self.seconds)
        if child is not None:
            child.settle()
            cpu = child.cpu_seconds() - cpu
        now = canned.served()
        requests = busy["requests"] or 0
        reached = requests if served is None or now is None else now - served
        if reached < 0.9 * requests:
            raise Failed(f"{running.name}: {reached:.0f} of {requests:.0f} requests reached the upstream")
        calm = self.load(running, 1, self.seconds)
        return {
            "cpu_us_per_request": cpu / reached * 1e6 if child and reached else None,
            "requests_per_s": requests / (busy["seconds"] or 1),
            "p50_ms": calm["p50_ms"],
            "requests": requests,
            "errors": (busy["errors"] or 0) + (calm["errors"] or 0),
        }

    # -- streams

    def streams(self, running: Running, streams: int) -> Figures:
        """Measure ``streams`` open streams through one candidate: CPU time an event, and the gaps between events."""
        child = running.child
        cpu = child.cpu_seconds() if child else 0.0
        words = [sys.executable, str(HERE / "stream_client.py"), "--port", str(running.port)]
        words += ["--streams", str(streams), "--seconds", str(self.seconds), "--warmup", "2"]
        words += ["--body", body(stream=True), "--headers", json.dumps(running.headers)]
        try:
            found: dict[str, Any] = json.loads(self._generate(words))
        except json.JSONDecodeError:
            raise Failed(f"{running.name}: the streaming client gave no result") from None
        used = child.cpu_seconds() - cpu if child else 0.0
        if child is not None:
            child.settle()
        return {
            "cpu_us_per_event": used / found["all_events"] * 1e6 if child and found["all_events"] else None,
            "events_per_s": found["events"] / found["seconds"],
            "itl_p50_ms": found["gap_p50_ms"],
            "itl_p99_ms": found["gap_p99_ms"],
            "errors": found["errors"],
        }

    def streaming_upstream(self, interval_ms: float) -> tuple[Child, Running]:
        """Start an upstream of streams with an event every ``interval_ms``, 64 each."""
        port = free_port()
        words = [sys.executable, str(HERE / "upstream.py"), "--port", str(port)]
        child = Child([*words, "--interval-ms", str(interval_ms)], self.cores[1], self.folder / "streams.log")
        return child, Running("direct", port, None, {})

    def start(
        self, candidates: Sequence[Candidate], upstream: int, stack: ExitStack, stream: bool
    ) -> tuple[list[Running], dict[str, str]]:
        """Start all ``candidates``; return those that are up, and why the others are not."""
        running, skipped = [], {}
        for candidate in candidates:
            try:
                one = candidate.start(upstream, self.cores[0], self.folder, stream)
            except (Failed, OSError) as exc:
                skipped[candidate.name] = str(exc)
                continue
            if one.child is not None:
                stack.push(one.child)
            running.append(one)
        return running, skipped
