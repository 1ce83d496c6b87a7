"""What a gateway costs: Hasten, its peers, and going direct, measured side by side.

One core is the gateway's, another the load generator's and the upstream's. All candidates run throughout and are
measured in turns, so that a drift of the machine weighs on all; the table holds medians over the rounds. CPU time is
the steady figure, requests/s and latencies move with the machine.

Loopback only. Everything that is started is ended, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from candidates import ALL, Candidate, Running
from command import attempt, say
from processes import Failed
from results import Results, write
from upstream import Canned

from hasten.bench.report import environment
from measure import Bench, Figures

#: phase: streams, milliseconds between events
STREAMING = {"events": (60, 10.0), "tokens": (200, 20.0)}


def rounds(
    results: Results, phase: str, count: int, running: list[Running], measure: Callable[[Running], Figures]
) -> None:
    """Measure all of ``running`` (going direct first) ``count`` times, every other round in reverse."""
    direct, *gateways = running
    for number in range(count):
        for one in [direct, *gateways[:: -1 if number % 2 else 1]]:
            if one.name in results.skipped:
                continue
            try:
                figures = measure(one)
            except Failed as exc:
                results.skipped[one.name] = str(exc)
                say(f"{phase}: {exc}")
                if one is direct:
                    return
                continue
            results.add(phase, number, one.name, figures)
            shown = ", ".join(f"{k} {v:,.2f}" for k, v in figures.items() if v is not None)
            say(f"{phase} {number + 1}/{count} {one.name}: {shown}")


def install(names: list[str], results: Results) -> list[Candidate]:
    """Install the named candidates and return those that are there."""
    found = []
    for name in names:
        candidate = ALL[name]()
        try:
            results.versions[name] = candidate.install()
        except (Failed, OSError) as exc:
            results.skipped[name] = str(exc)
            say(f"skipped: {name}: {exc}")
            continue
        found.append(candidate)
    return found


def start(
    bench: Bench, candidates: list[Candidate], upstream: Running, stack: ExitStack, stream: bool
) -> list[Running]:
    """Return going direct and all candidates that could be started."""
    running, skipped = bench.start(candidates, upstream.port, stack, stream)
    for name, why in skipped.items():
        say(f"skipped: {name}: {why}")
    return [upstream, *running]


def whole(bench: Bench, candidates: list[Candidate], results: Results, count: int) -> None:
    """Measure answers that come whole."""
    with ExitStack() as stack:
        canned = Canned(bench.cores[1], bench.folder)
        stack.push(canned.child)
        canned.child.wait_ready(canned.direct.request(stream=False), 20)
        running = start(bench, candidates, canned.direct, stack, stream=False)
        rounds(results, "whole", count, running, lambda one: bench.whole(one, canned))


def streaming(bench: Bench, candidates: list[Candidate], results: Results, count: int) -> None:
    """Measure streams of events, in each of the :data:`STREAMING` phases."""
    for phase, (streams, interval) in STREAMING.items():
        with ExitStack() as stack:
            child, direct = bench.streaming_upstream(interval)
            stack.push(child)
            child.wait_ready(direct.request(stream=True), 20)
            running = start(bench, candidates, direct, stack, stream=True)
            rounds(results, phase, count, running, lambda one, n=streams: bench.streams(one, n))  # type: ignore[misc]


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(ALL), metavar="A,B", help=f"of {', '.join(ALL)}")
    parser.add_argument("--rounds", type=int, default=4, help="default 4")
    parser.add_argument("--seconds", type=int, default=3, help="a measurement (default 3)")
    parser.add_argument("--skip-streaming", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), metavar="FOLDER")
    args = parser.parse_args()
    names = [name for name in args.only.split(",") if name]
    unknown = [name for name in names if name not in ALL]
    cores = sorted(os.sched_getaffinity(0))[:2]
    if unknown or args.rounds < 1 or args.seconds < 1 or len(cores) < 2:
        parser.error(f"unknown: {unknown}" if unknown else "needs two cores, a round and a second at least")

    results = Results()
    candidates = install(names, results)
    os.sched_setaffinity(0, {cores[1]})

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="hasten-bench-") as folder:
            bench = Bench(cores, Path(folder), args.seconds)
            whole(bench, candidates, results, args.rounds)
            if not args.skip_streaming:
                streaming(bench, candidates, results, args.rounds)

    code = attempt(work)
    if code:
        return code
    table = results.markdown()
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    settings = {"rounds": args.rounds, "seconds": args.seconds, "only": names, "cores": cores}
    path = write(args.out, f"overhead-{stamp}.json", results.as_json(environment(), settings))
    write(args.out, f"overhead-{stamp}.md", table + "\n")
    print(table)
    say(f"written to {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
