"""Find the limits on the verifier's score that keep a row of bounds, on groups that it was not trained on.

    python training/verifier/calibrate.py [--out src/hasten/cache/semantic/model/verifier.json]

Runs what the gateway runs: canonical forms, misspellings, guards, the int8 verifier, one pair at a time. Of each
held-out group come its true pairs and as many traps, of which ``--traps`` says how much each counts: at 0.5 every third
candidate is made to deceive, far more than traffic brings. Pairs that the guards refuse are served at no limit; those
of equal canonical form at every limit, and they are counted too.
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path

import msgspec
from pairs import Pair, read

from hasten.cache.semantic.calibration import Calibration, lowest_limit
from hasten.cache.semantic.canonical import canonical, typos
from hasten.cache.semantic.guards import conflict
from hasten.cache.semantic.models import HERE, VERIFIER, VOCABULARY, Verifier

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
SURE = 100.0  # the score of pairs that need no verifier
NEVER = -100.0


def judge(pairs: list[Pair], verifier: Verifier, words: frozenset[str]) -> list[float]:
    """Return a score for each pair as the gateway would see it, :data:`SURE` and :data:`NEVER` included."""
    found = []
    for pair in pairs:
        a, b = canonical(pair.a), canonical(pair.b)
        if a == b or typos(a, b, words):
            found.append(SURE)
        elif conflict(pair.a, pair.b) is not None:
            found.append(NEVER)
        else:
            found.append(verifier([(pair.a, pair.b)])[0])
    return found


def fit(scored: list[tuple[float, bool]]) -> tuple[float, float]:
    """Return a, b of P(wrong | score) = sigma(a - b score) (Platt 1999), by Newton's method with bounded steps."""
    a, b = 0.0, 0.5
    for _ in range(200):
        ga = gb = haa = hab = hbb = 1e-9
        for s, right in scored:
            p = 0.5 * (1 + math.tanh((a - b * s) / 2))
            e, w = p - (not right), p * (1 - p)
            ga, gb = ga + e, gb - e * s
            haa, hab, hbb = haa + w, hab - w * s, hbb + w * s * s
        det = haa * hbb - hab * hab
        da, db = (hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det
        step = min(1.0, 0.5 / max(abs(da), abs(db), 1e-12))
        a, b = a - step * da, b - step * db
        if abs(da) + abs(db) < 1e-9:
            break
    return a, b


def known_words() -> frozenset[str]:
    """Return the words that are no misspellings."""
    words = VOCABULARY.read_text(encoding="utf-8").split("\n")
    return frozenset(word for word in words if word.isalpha() and len(word) > 1)


def main() -> None:
    """Parse the command line, calibrate, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--verifier", type=Path, default=VERIFIER)
    parser.add_argument("--out", type=Path, default=HERE / "verifier.json")
    parser.add_argument("--traps", type=float, default=0.5, help="traps that come with each true pair")
    args = parser.parse_args()
    rng = random.Random(3)
    pairs: list[Pair] = []
    for group in read(args.data):
        if group.held_out:
            made = list(group.pairs())
            true = [p for p in made if p.same]
            traps = [p for p in made if not p.same]
            pairs += true + rng.sample(traps, min(len(traps), len(true)))
    verdicts = judge(pairs, Verifier(args.verifier), known_words())
    scored = [(s, p.same) for s, p in zip(verdicts, pairs, strict=True)]
    limits = []
    total = sum(same for _, same in scored)
    for bound in BOUNDS:
        limit = lowest_limit(scored, bound, args.traps)
        if limit is not None and NEVER < limit < SURE:
            limits.append((bound, round(limit, 3)))
            served = [same for s, same in scored if s >= limit]
            print(
                f"bound {bound:5.1%}: limit {limit:6.2f}, recall {sum(served) / total:.1%}, {len(served)} served"
            )
    a, b = fit([(s, same) for s, same in scored if NEVER < s < SURE])
    sure = [same for s, same in scored if s == SURE]
    guarded = [same for s, same in scored if s == NEVER]
    print(f"{len(scored)} pairs; no verifier needed: {len(sure)}, {len(sure) - sum(sure)} of them wrong")
    print(
        f"guarded: {len(guarded) - sum(guarded)} traps, {sum(guarded)} true pairs; "
        f"P(wrong | s) = sigma({a:.3f} - {b:.3f} s)"
    )
    made_of = Calibration(tuple(limits), round(a, 4), round(b, 4), len(scored), args.traps)
    args.out.write_bytes(msgspec.json.format(msgspec.json.encode(made_of)) + b"\n")


if __name__ == "__main__":
    main()
