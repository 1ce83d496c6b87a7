"""What the cache costs and saves: inside the gateway, over HTTP against the gateway without it, and with a crowd.

inside  ``bench/cache_inside.py`` on one core: exact, canonical and verified hits, and misses, without HTTP
http    requests/s and CPU time a request of exact hits, and of misses (every request another one), against the same
        gateway with its cache off; the gateway has one core, the load generator and the upstream share another; all
        run throughout and are measured in turns; the table holds medians and the ratio within a round
crowd   many identical requests at once, whole and streamed: how many reach the upstream

Loopback only, bounded in time and count. Everything that is started is ended, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from cache_crowd import allow_files, crowd
from cache_gateway import OFF, Cached, address, need_semantic
from candidates import MODEL, Running
from command import attempt, say
from processes import Failed
from results import tool_versions, write
from upstream import Canned

from hasten.bench.report import environment
from hasten.testing import Script, ScriptedUpstream
from measure import CONNECTIONS, Bench, Figures

HERE = Path(__file__).parent
PARTS = ("inside", "http", "crowd")
SAME, UNIQUE, SCOPES = "the same", "another question", "another scope"
#: case, which gateway, what is asked, connections. A case is compared with the gateway "off" under the same load.
CASES = (
    ("cache off", "off", SAME, CONNECTIONS),
    ("exact hit", "on", SAME, CONNECTIONS),
    ("cache off, unique", "off", UNIQUE, CONNECTIONS),
    ("miss, semantic off", "exact-only", UNIQUE, CONNECTIONS),
    ("miss, a scope of its own", "on", SCOPES, CONNECTIONS),
    ("miss, one scope", "on", UNIQUE, CONNECTIONS),
    ("cache off, unique, 1 connection", "off", UNIQUE, 1),
    ("miss, one scope, 1 connection", "on", UNIQUE, 1),
)
SECTIONS = {"off": OFF, "exact-only": "cache: {semantic: false}\n", "on": ""}
BODIES = 60_000  # a round and case: more than a gateway answers meanwhile
VERBS = ("paint", "repair", "choose", "clean", "build", "store", "sell", "move", "measure", "draw")
ADJECTIVES = ("small", "wooden", "old", "heavy", "round", "cheap", "modern", "broken", "green", "folding")
NOUNS = ("boat", "violin", "fence", "lamp", "kettle", "tent", "ladder", "clock", "bicycle", "piano")
PLACES = ("in a garden", "at the coast", "on a roof", "in winter", "with a child", "near a road", "at night")

#: Takes one body after the other.
SCRIPT = """
local bodies = {{}}
for line in io.lines("{bodies}") do bodies[#bodies + 1] = line end
local n = 0
request = function()
  n = n % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[n])
end
"""


# -- over HTTP


def bodies(what: str, number: int) -> Iterator[str]:
    """Yield requests: the same one again and again, or each another one than all before, in any round."""
    for i in range(1 if what == SAME else BODIES):
        words = [part[i // step % len(part)] for part, step in zip(WORDS, STEPS, strict=True)]
        text = "How do I {} a {} {} {}?".format(*words)
        system = "Be brief."
        if what == SCOPES:
            system = f"Be brief. This is call {i} of round {number}."
        elif what == UNIQUE:
            text += f" It is for {letters(i)} {letters(number)}."
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        yield json.dumps({"model": MODEL, "messages": messages, "max_tokens": 64})


WORDS = (VERBS, ADJECTIVES, NOUNS, PLACES)
STEPS = (1, 10, 100, 1000)


def letters(n: int) -> str:
    """Return a made-up name for a number: no digits, which would tell two questions apart without a model."""
    syllables = [a + b for a, b in product("bdfgklmnprst", "aeiou")]
    name = ""
    while n or not name:
        n, rest = divmod(n, len(syllables))
        name += syllables[rest]
    return name.capitalize()


class Load:
    """Offers what :func:`bodies` makes, with wrk or the project's own load generator."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._files = 0

    def offer(self, running: Running, what: str, connections: int, seconds: int) -> Figures:
        """Load ``running`` for ``seconds`` and return what the generator reports."""
        self._files += 1
        path = self.bench.folder / f"bodies-{self._files}.jsonl"
        path.write_text("\n".join(bodies(what, self._files)) + "\n")
        try:
            options = ["--prompts", str(path)]
            return self.bench.offer(running, SCRIPT.format(bodies=path), options, connections, seconds)
        finally:
            path.unlink()

    def measure(self, running: Running, what: str, connections: int, canned: Canned) -> Figures:
        """Measure one case once.

        ``reached``: the share of the requests that the upstream saw. ``given_up``: that of those for which the
        semantic look-up was given up, because the models had too much to do.
        """
        child = running.child
        assert child is not None
        self.offer(running, what, connections, 1)
        child.settle()
        cpu, served, passed = child.cpu_seconds(), canned.served(), given_up(running)
        busy = self.offer(running, what, connections, self.bench.seconds)
        child.settle()
        cpu, now, passed = child.cpu_seconds() - cpu, canned.served(), given_up(running) - passed
        requests = busy["requests"] or 0
        if not requests:
            raise Failed(f"{running.name}: no request was answered")
        return {
            "requests_per_s": requests / (busy["seconds"] or 1),
            "cpu_us_per_request": cpu / requests * 1e6,
            "p50_ms": busy["p50_ms"],
            "reached": None if served is None or now is None else (now - served) / requests,
            "given_up": passed / requests,
            "requests": requests,
            "errors": busy["errors"],
        }


def given_up(running: Running) -> float:
    """Return how often the semantic look-up was given up so far."""
    with urllib.request.urlopen(address(running, "/metrics"), timeout=10) as answer:
        page = answer.read().decode()
    found = re.findall(r'^hasten_cache_bypassed_total{[^}]*"semantic_[^}]*} (\S+)$', page, re.MULTILINE)
    return sum(map(float, found))


def over_http(bench: Bench, rounds: int) -> dict[str, list[Figures]]:
    """Return the figures of every case, one a round."""
    found: dict[str, list[Figures]] = {case: [] for case, *_ in CASES}
    with ExitStack() as stack:
        canned = Canned(bench.cores[1], bench.folder)
        stack.push(canned.child)
        canned.child.wait_ready(canned.direct.request(stream=False), 20)
        running = {}
        for name, sections in SECTIONS.items():
            one = Cached(f"hasten-{name}", sections).start(canned.port, bench.cores[0], bench.folder, False)
            assert one.child is not None
            stack.push(one.child)
            running[name] = one
        need_semantic(running["on"])
        load = Load(bench)
        for number in range(rounds):
            for case, name, what, connections in CASES[:: -1 if number % 2 else 1]:
                figures = load.measure(running[name], what, connections, canned)
                found[case].append(figures)
                shown = ", ".join(f"{k} {v:,.2f}" for k, v in figures.items() if v is not None)
                say(f"http {number + 1}/{rounds} {case}: {shown}")
    return found


def http_table(found: dict[str, list[Figures]]) -> str:
    """Return the medians, and those of the ratios to the gateway without its cache within a round."""
    heads = (
        "requests/s",
        "× off",
        "CPU µs a request",
        "× off",
        "p50 ms",
        "× off",
        "reached upstream",
        "given up",
    )
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for case, _, what, connections in CASES:
        base = next(
            found[other]
            for other, name, asked, n in CASES
            if name == "off" and (asked == SAME) == (what == SAME) and n == connections
        )
        rounds = found[case]
        cells = [case]
        for figure, digits in (("requests_per_s", 0), ("cpu_us_per_request", 0), ("p50_ms", 2)):
            ratios = [(f[figure] or 0) / (b[figure] or 1) for f, b in zip(rounds, base, strict=True)]
            cells += [f"{median(f[figure] or 0 for f in rounds):,.{digits}f}", f"{median(ratios):.2f}"]
        for figure in ("reached", "given_up"):
            shares = [share for f in rounds if (share := f[figure]) is not None]
            cells.append(f"{median(shares):.0%}" if shares else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


# -- the other two


def inside(bench: Bench, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Run the in-process part on the gateway's core."""
    words = ["taskset", "-c", str(bench.cores[0]), sys.executable, str(HERE / "cache_inside.py")]
    words += ["--count", str(count), "--rounds", str(rounds)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False, timeout=600)
    if done.returncode:
        raise Failed(f"cache_inside.py ended with {done.returncode}")
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def inside_table(found: dict[str, dict[str, float]]) -> str:
    """Return the latencies inside the gateway."""
    lines = ["| inside the gateway | requests | p50 ms | p99 ms |", "|---|---:|---:|---:|"]
    for case, f in found.items():
        lines.append(f"| {case} | {f['n']:,} | {f['p50_us'] / 1e3:.3f} | {f['p99_us'] / 1e3:.3f} |")
    return "\n".join(lines)


def crowds(bench: Bench, clients: int) -> list[dict[str, Any]]:
    """Ask the gateway the same by many at once, whole and streamed."""

    async def both() -> list[dict[str, Any]]:
        found = []
        async with ScriptedUpstream(Script(ttft=0.5, itl=0.05)) as upstream:
            start = Cached("hasten-crowd").start
            running = await asyncio.to_thread(start, upstream.port, bench.cores[0], bench.folder, False)
            assert running.child is not None
            with running.child:
                for stream in (False, True):
                    found.append(await crowd(running.port, upstream, clients, stream))
        return found

    allow_files(3 * clients + 200)
    return asyncio.run(both())


def crowd_table(found: list[dict[str, Any]]) -> str:
    """Return what the crowds met."""
    lines = [
        "| crowd | clients | upstream calls | answered | different bodies | s | |",
        "|---|" + "---:|" * 5 + "---|",
    ]
    for f in found:
        kinds = ", ".join(f"{n} {kind}" for kind, n in f["cache"].items())
        cells = [
            f["clients"],
            f["upstream_calls"],
            f["ok"],
            f["different_bodies"],
            f"{f['seconds']:.2f}",
            kinds,
        ]
        lines.append(f"| {'streamed' if f['stream'] else 'whole'} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def run(args: argparse.Namespace, cores: list[int]) -> dict[str, Any]:
    """Measure all parts that were asked for; print their tables."""
    made: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="hasten-bench-") as folder:
        bench = Bench(cores, Path(folder), args.seconds)
        if "inside" in args.only:
            made["inside"] = inside(bench, args.count, args.rounds)
            print(inside_table(made["inside"]), flush=True)
        os.sched_setaffinity(0, {cores[1]})
        if "http" in args.only:
            made["http"] = over_http(bench, args.rounds)
            print("\n" + http_table(made["http"]), flush=True)
        if "crowd" in args.only:
            made["crowd"] = crowds(bench, args.clients)
            print("\n" + crowd_table(made["crowd"]), flush=True)
    return made


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), metavar="A,B", help="default all: %(default)s")
    parser.add_argument("--rounds", type=int, default=4, help="default 4")
    parser.add_argument("--seconds", type=int, default=3, help="a measurement over HTTP (default 3)")
    parser.add_argument("--count", type=int, default=5000, help="exact hits inside (default 5000)")
    parser.add_argument("--clients", type=int, default=1000, help="of the crowd (default 1000)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), metavar="FOLDER")
    args = parser.parse_args()
    args.only = args.only.split(",")
    cores = sorted(os.sched_getaffinity(0))[:2]
    if not set(args.only) <= set(PARTS) or min(args.rounds, args.seconds, args.count) < 1 or len(cores) < 2:
        parser.error(f"--only takes {', '.join(PARTS)}; needs two cores, a round and a second at least")
    made: dict[str, Any] = {}
    code = attempt(lambda: made.update(run(args, cores)))
    if code:
        return code
    settings = {k: getattr(args, k) for k in ("only", "rounds", "seconds", "count", "clients")}
    tree = {"schema": "hasten.cache-speed/1", "environment": environment(), "settings": settings}
    tree |= {"versions": tool_versions(), "parts": made}
    name = f"cache-speed-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    say(f"written to {write(args.out, name, json.dumps(tree, indent=2) + chr(10))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
