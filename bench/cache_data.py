"""The labelled pairs that the semantic cache is measured with. They are not part of this repository.

=============================================  ==========================================================
``FOLDER/fow-cache/pairs.jsonl``               PyPI wheel ``fow-cache`` 0.1.0, ``fow_cache/data`` (CC BY 4.0)
``FOLDER/fow-cache/conversations.jsonl``       the same wheel
``FOLDER/gptcache-qqp/qqp_pairs.jsonl.gz``     zilliztech/GPTCache, ``examples/benchmark/similiar_qqp_full.json.gz``,
                                               as lines ``{"id", "a", "b", "same"}`` (Quora's terms)
``FOLDER/paws-qqp/dev_and_test.jsonl``         uds-lsv/llmft, ``data/paws_qqp/dev_and_test.tsv``, likewise
=============================================  ==========================================================
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cache_judge import Labels, Messages, Pair, form

_WORDS = """
amber anchor apple arrow autumn barrel basket beacon blossom bridge bronze candle canyon castle cedar chapel
cherry cloud comet copper coral cotton crystal desert dolphin dragon eagle ember falcon feather fiddle
forest fountain galaxy garden ginger glacier granite harbor hazel hollow island ivory jasmine jungle kettle
lantern lemon lilac linen lotus magnet maple marble meadow mirror mountain nectar nickel nutmeg oasis ocean
olive orchard otter oyster paddle panther parcel pebble pepper pillow planet plaster prairie pumpkin quarry
rabbit raven ribbon river rocket saddle saffron sailor salmon scarlet shadow silver sparrow spider spring
stable summer sunset thistle thunder timber tunnel turtle valley velvet violet walnut willow window winter
zephyr
"""


class DataSet:
    """Pairs, and what the whole data says of their questions."""

    def __init__(self, name: str, pairs: list[Pair], labels: Labels) -> None:
        self.name = name
        self.pairs = pairs
        self.labels = labels

    def answers(self, blind: bool = False) -> dict[str, tuple[str, str]]:
        """Return (id, text) of the answer to each question, by its form.

        The id names the question. The text is the same for questions that the data calls the same: the gateway
        compares answers, and is to see what it would see in use. ``blind``: all alike and too short to compare.
        """
        groups: dict[str, str] = {}

        def root(x: str) -> str:
            while groups.setdefault(x, x) != x:
                x = groups[x]
            return x

        for pair in self.pairs:
            a, b = root(form(pair.a)), root(form(pair.b))
            if pair.same and a != b:
                groups[b] = a
        return {x: (f"q{i}", "Yes." if blind else text_for(root(x))) for i, x in enumerate(list(groups))}


def text_for(group: str) -> str:
    """Return an answer of a few words, the same for the same ``group`` and unlike those of others."""
    return "It has to do with " + " ".join(random.Random(group).sample(_WORDS.split(), 14)) + "."


def _lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _said(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def _conversation(messages: list[dict[str, str]]) -> Messages:
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _pair(row: dict[str, Any]) -> Pair:
    """Return a row of any of the files as a pair."""
    same = bool(row["same_answer"] if "same_answer" in row else row["same"])
    trap = row.get("category") or row.get("subtype") or "different"
    if isinstance(row["a"], str):
        return Pair(_said(row["a"]), _said(row["b"]), same, trap)
    return Pair(_conversation(row["a"]), _conversation(row["b"]), same, trap)


FILES = {
    "fow": "fow-cache/pairs.jsonl",
    "conversations": "fow-cache/conversations.jsonl",
    "qqp": "gptcache-qqp/qqp_pairs.jsonl.gz",
    "paws": "paws-qqp/dev_and_test.jsonl",
}


def read(folder: Path, name: str, sample: int, limit: int | None) -> list[DataSet]:
    """Return the data set ``name``, for ``fow`` also its two halves. Raises OSError, ValueError, KeyError.

    ``sample``: of the pairs of ``qqp``, seeded. ``limit``: of the pairs of every set, evenly spread.
    """
    pairs = [_pair(row) for row in _lines(folder / FILES[name])]
    labels = Labels()
    for pair in pairs:
        labels.add(form(pair.a), form(pair.b), pair.same)
    if name == "qqp":
        pairs = random.Random(7).sample(pairs, min(sample, len(pairs)))
    if limit is not None and limit < len(pairs):
        pairs = [pairs[i * len(pairs) // limit] for i in range(limit)]
    sets = [DataSet(name, pairs, labels)]
    if name == "fow":
        sets += [DataSet("fow even rows", pairs[::2], labels), DataSet("fow odd rows", pairs[1::2], labels)]
    return sets


def distinct(items: list[Messages], key: Callable[[Messages], str] = form) -> list[Messages]:
    """Return ``items`` without repetitions, in their order."""
    return list({key(item): item for item in items}.values())
