"""What to evict: policies compared on made and real traces; and what the memory store takes when it is filled.

::

    python bench/eviction.py [--data FOLDER] [--share 0.05]
    python bench/eviction.py --fill 1000000 [--kind exact] [--max-bytes 268435456]

``--data``: a folder with ``mooncake/conversation_trace.jsonl.gz`` (block ids of the Mooncake trace, FAST 2025) and
``azure/*.csv.gz`` (token counts of Azure's LLM inference trace, 2023). ``--share``: the cache's size as a part of all
the trace's bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import hashlib
import json
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from policies import POLICIES

from hasten.cache.entry import Entry
from hasten.cache.store.eviction import Slot
from hasten.cache.store.memory import MemoryStore

KEYS, REQUESTS = 60_000, 300_000
SCANNED = 0.4  # part of a trace with scans that is asked once only
DRIFT = 2000  # requests after which a hundredth of the keys changes places


class Trace(NamedTuple):
    """Keys in the order of the requests; for each key its bytes and the seconds that a hit saves."""

    keys: Any
    sizes: Any
    costs: Any


def properties(count: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return log-normal sizes (median 2 kB) and costs (median 1 s), a little correlated: longer answers take longer."""
    sizes = np.clip(rng.lognormal(np.log(2000), 1.2, count), 200, 200_000).astype(int)
    costs = rng.lognormal(0, 0.8, count) * (sizes / 2000) ** 0.5
    return sizes, costs


def zipf(alpha: float, rng: np.random.Generator) -> Trace:
    weights = np.arange(1, KEYS + 1) ** -alpha
    keys = rng.choice(KEYS, REQUESTS, p=weights / weights.sum())
    return Trace(keys, *properties(KEYS, rng))


def scans(rng: np.random.Generator) -> Trace:
    """Zipf, alpha 0.9, interrupted by runs of keys that are asked once."""
    keys = zipf(0.9, rng).keys
    once = np.repeat(rng.random(REQUESTS // 1000) < SCANNED, 1000)
    keys[once] = KEYS + np.arange(once.sum())
    return Trace(keys, *properties(KEYS + int(once.sum()), rng))


def drift(rng: np.random.Generator) -> Trace:
    """Zipf, alpha 0.9, where what is popular changes."""
    keys = zipf(0.9, rng).keys
    now = rng.permutation(KEYS)
    for start in range(0, REQUESTS, DRIFT):
        moved = rng.choice(KEYS, KEYS // 100, replace=False)
        popular = rng.choice(200, 10, replace=False)  # among them some of the most popular
        moved = np.union1d(moved, popular)
        now[moved] = now[rng.permutation(moved)]
        keys[start : start + DRIFT] = now[keys[start : start + DRIFT]]
    return Trace(keys, *properties(KEYS, rng))


def tokens(data: Path) -> Any:
    """Return how many tokens each answer of Azure's trace has."""
    (path,) = (data / "azure").glob("*.csv.gz")
    with gzip.open(path, "rt") as file:
        return np.array([int(row["GeneratedTokens"]) for row in csv.DictReader(file)])


def answers(count: int, data: Path, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return sizes and costs of answers as long as Azure's: 200 bytes a token if streamed, 5 if not; 50 tokens/s."""
    lengths = rng.choice(tokens(data), count)
    sizes = 400 + lengths * np.where(rng.random(count) < 0.5, 200, 5)
    return sizes, 0.2 + lengths / 50


def blocks(data: Path, rng: np.random.Generator) -> Trace:
    """The reuse of Mooncake's blocks: real order, half of it asked once; answers like Azure's."""
    seen: list[int] = []
    with gzip.open(data / "mooncake" / "conversation_trace.jsonl.gz") as file:
        for line in file:
            seen += json.loads(line)["hash_ids"]
    keys = np.unique(np.array(seen), return_inverse=True)[1]
    return Trace(keys, *answers(int(keys.max()) + 1, data, rng))


def traces(data: Path | None) -> Iterator[tuple[str, Trace]]:
    rng = np.random.default_rng(7)
    for alpha in (0.7, 0.9, 1.1):
        yield f"Zipf {alpha}", zipf(alpha, rng)
    yield "scans", scans(rng)
    yield "drift", drift(rng)
    if data is not None:
        yield "Azure's answers, Zipf 0.9", Trace(zipf(0.9, rng).keys, *answers(KEYS, data, rng))
        yield "Mooncake's blocks", blocks(data, rng)


def replay(trace: Trace, policy: Any, limit: int) -> tuple[float, float, float, float]:
    """Return hit rate, byte hit rate, rate of seconds saved, and microseconds per request."""
    names = [b"%d" % number for number in range(len(trace.sizes))]
    keys, sizes, costs = trace.keys.tolist(), trace.sizes.tolist(), trace.costs.tolist()
    slots: dict[int, Slot] = {}
    held = hits = hit_bytes = 0
    saved = 0.0
    since = time.process_time()
    for key in keys:
        slot = slots.get(key)
        if slot is not None:
            policy.hit(slot)
            hits += 1
            hit_bytes += sizes[key]
            saved += costs[key]
            continue
        size = sizes[key]
        while held + size > limit:
            victim = policy.take()
            held -= sizes[number := int(victim.key)]
            del slots[number]
        slots[key] = slot = slot_of(names[key])
        held += size
        policy.add(slot, costs[key], size)
    took = (time.process_time() - since) / len(keys) * 1e6
    return (
        hits / len(keys),
        hit_bytes / trace.sizes[trace.keys].sum(),
        saved / trace.costs[trace.keys].sum(),
        took,
    )


def slot_of(key: bytes) -> Slot:
    return Slot(stale_until=0.0, key=key, data=b"-", tenant="", scope=b"", canonical=b"")


def compare(data: Path | None, share: float) -> None:
    print(
        f"cache: {share:.0%} of a trace's bytes; hits, bytes, seconds: parts in 100; µs: CPU time per request"
    )
    for name, trace in traces(data):
        limit = int(trace.sizes[np.unique(trace.keys)].sum() * share)
        print(f"\n{name}\n{'':16}{'hits':>8}{'bytes':>8}{'seconds':>9}{'µs':>7}")
        for label, kind in POLICIES.items():
            hits, size, seconds, took = replay(trace, kind(), limit)
            print(f"{label:16}{hits:8.1%}{size:8.1%}{seconds:9.1%}{took:7.2f}", flush=True)


# -- filling


def resident() -> int:
    """Return the bytes of memory that this process has (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Entries:
    """Makes entries: bodies of 200 bytes to 20 kB, every 200th of 200 kB; half of them semantic, a quarter embedded."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._rng = random.Random(1)
        self._noise = self._rng.randbytes(1 << 20)
        vectors = np.random.default_rng(1).standard_normal((64, 384)).astype(np.float32)
        self._vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _size(self) -> int:
        if self._kind in ("small", "even"):
            return {"small": self._rng.randint(100, 400), "even": 3000}[self._kind]
        return 200_000 if self._rng.random() < 0.005 else int(200 * 100 ** self._rng.random())

    def key(self, number: int, part: str = "key") -> bytes:
        return hashlib.blake2b(f"{part} {number}".encode(), digest_size=20).digest()

    def make(self, number: int) -> tuple[Entry, Any]:
        """Return an entry, and its vector if it has one."""
        at, size = self._rng.randrange(1 << 19), self._size()
        semantic = self._kind != "exact" and number % 2 == 0
        entry = Entry(
            key=self.key(number),
            tenant="acme",
            model="gpt",
            engine="hub",
            provider="openai",
            streamed=True,
            body=self._noise[at : at + size],
            content_type=b"text/event-stream",
            created=time.time(),
            expires=time.time() + 3600,
            stale_until=time.time() + 3600,
            tags=("all", "tenant:acme", "model:gpt"),
            epochs=(0, 0, 0),
            took=self._rng.lognormvariate(0, 1),
            scope=self.key(number, "scope") if semantic else None,
            canonical=self.key(number, "canonical") if semantic else None,
            text="why " * 50 if semantic else None,
        )
        return entry, self._vectors[number % 64] if semantic and number % 4 == 0 else None


async def fill(count: int, max_bytes: int, kind: str) -> None:
    """Put ``count`` entries, with a look-up for every third; say what the store counts and what the process takes."""
    entries, rng = Entries(kind), random.Random(2)
    await MemoryStore(1 << 20).put(*entries.make(0))  # what is imported for vectors is not the store's
    before, store = resident(), MemoryStore(max_bytes)
    counted = grown = 0
    took: dict[str, float] = {"put": 0.0, "get": 0.0}
    for number in range(count):
        entry, vector = entries.make(number)
        since = time.process_time()
        await store.put(entry, vector)
        took["put"] += time.process_time() - since
        counted = max(counted, store.nbytes)
        if number % 3 == 0:
            key = entries.key(rng.randrange(max(0, number - 20_000), number + 1))
            since = time.process_time()
            await store.get(key)
            took["get"] += time.process_time() - since
        if number % 1000 == 0:
            grown = max(grown, resident() - before)
    now = resident() - before
    print(f"{kind}: {count:,} entries put; {store.stats()}")
    print(
        f"most counted {counted / max_bytes:.2%} of the limit; memory grown by {now / max_bytes:.1%}, ",
        end="",
    )
    print(f"at most {grown / max_bytes:.1%}")
    print(f"µs of CPU time: put {took['put'] / count * 1e6:.1f}, get {took['get'] / count * 3e6:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--fill", type=int, metavar="ENTRIES")
    parser.add_argument("--kind", choices=["mixed", "exact", "even", "small"], default="mixed")
    parser.add_argument("--max-bytes", type=int, default=256 << 20)
    options = parser.parse_args()
    if options.fill:
        asyncio.run(fill(options.fill, options.max_bytes, options.kind))
    else:
        compare(options.data, options.share)


if __name__ == "__main__":
    main()
