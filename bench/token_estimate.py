"""How far off are estimated token counts? Fits the weights of :mod:`hasten.tokens`, or holds them against vocabularies.

    python -m bench.token_estimate [--fit] --vocabulary NAME=FILE ... --texts KIND=GLOB ...

Vocabularies: files of ranks as tiktoken reads them, or a ``tokenizer.json``. Texts: files of any kind (``.gz`` too; of
``.mo`` the messages; of ``.jsonl`` the longer texts in each line), cut into pieces. Half of the pieces, by a hash, are
for the fit, the other half for the errors that are printed.
"""

from __future__ import annotations

import argparse
import gettext
import gzip
import io
import re
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
import tiktoken
import tiktoken.load
from tokenizers import Tokenizer

from hasten import tokens

#: How a vocabulary cuts text before it merges bytes: OpenAI's cl100k_base, with the digits that a piece may have, and
#: o200k_base (openai/tiktoken, tiktoken_ext/openai_public.py).
CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"""
    r"""|\s*[\r\n]|\s+(?!\S)|\s"""
)
O200K = (
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
    r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
    r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
PATTERNS = {"o200k": O200K, "qwen": CL100K.replace(r"\p{N}{1,3}+", r"\p{N}")}
PIECE = 1500  # characters; of messages in other languages half of it
EMOJI = 3.0  # tokens, where no text has any
RIDGE = (
    1e-8  # how strongly weights keep to what they would be without a text: 1 a character of another script
)
#: Weights are not below: 0, or of a script's characters 0.3. Blanks in a row are fewer tokens than as many alone.
LEAST = {"double_blanks": -np.inf, "four_digits": 0.5}
MESSAGES = 0.25  # the weight of programs' messages in the fit, against other texts

Counter = Callable[[str], int]


def vocabulary(name: str, path: Path) -> Counter:
    """Return what counts a text's tokens."""
    if path.suffix == ".json":
        tokenizer = Tokenizer.from_file(str(path))
        return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
    ranks = tiktoken.load.load_tiktoken_bpe(str(path))
    encoding = tiktoken.Encoding(
        name, pat_str=PATTERNS.get(name, CL100K), mergeable_ranks=ranks, special_tokens={}
    )
    return lambda text: len(encoding.encode_ordinary(text))


def read(path: Path) -> str:
    """Return a file's text."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data, path = gzip.decompress(data), path.with_suffix("")
    if path.suffix == ".mo":
        catalogue: dict[str, str] = gettext.GNUTranslations(io.BytesIO(data))._catalog  # type: ignore[attr-defined]
        said = [text for key, text in catalogue.items() if key and isinstance(text, str) and len(text) > 25]
        return re.sub(r"%\(\w+\)s|%[sd]|\s*\n\s*", " ", " ".join(said))
    text = data.decode("utf-8", "replace")
    if path.suffix != ".jsonl":
        return text
    return "\n".join(
        longer for line in text.splitlines() if line for longer in _texts(msgspec.json.decode(line))
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and len(value) > 40:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def pieces(pattern: str, most: int) -> list[str]:
    """Return pieces of the files that ``pattern`` names, evenly chosen if there are too many."""
    found = []
    for name in sorted(glob(pattern, recursive=True)):
        size = PIECE // 2 if name.endswith(".mo") else PIECE
        text = read(Path(name))
        found += [text[start : start + size] for start in range(0, max(1, len(text) - size // 2), size)]
    found = [piece for piece in found if len(piece) > 100]
    return found[:: -(-len(found) // most)] if found else []


def fit(texts: list[str], wanted: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """Return the weights with the least squares of relative errors, each at least :data:`LEAST`."""
    names = list(tokens.WEIGHTS)
    counts = np.zeros((len(texts), len(names)))
    for row, text in zip(counts, texts, strict=True):
        found = tokens.features(text)
        row[: len(found)] = found
    scaled = counts * (trust / wanted)[:, None]
    prior = np.array([EMOJI if name == "emoji" else float(name in tokens.SCRIPTS) for name in names])
    left = scaled.T @ scaled + RIDGE * len(texts) * np.eye(len(names))
    right = scaled.T @ trust + RIDGE * len(texts) * prior
    least = np.array([LEAST.get(name, 0.3 if name in tokens.SCRIPTS else 0.0) for name in names])
    weights = prior.copy()
    for _ in range(20_000):  # one coordinate after the other (Franc, Hlavac, Navara 2005)
        for i in range(len(names)):
            weights[i] = max(least[i], weights[i] + (right[i] - left[i] @ weights) / left[i, i])
    return weights


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabulary", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--texts", action="append", required=True, metavar="KIND=GLOB")
    parser.add_argument("--most", type=int, default=300, help="pieces of a kind")
    parser.add_argument("--fit", action="store_true", help="print weights instead of errors")
    given = parser.parse_args()
    vocabularies = {
        name: vocabulary(name, Path(path)) for name, path in (v.split("=") for v in given.vocabulary)
    }
    kinds = {kind: pieces(pattern, given.most) for kind, pattern in (t.split("=") for t in given.texts)}
    rows = [(kind, text) for kind, texts in kinds.items() for text in texts]
    counts = np.array([[counter(text) for counter in vocabularies.values()] for _, text in rows], float)
    median = np.median(counts, axis=1)
    fitting = np.array([crc32(text.encode()) % 2 == 0 for _, text in rows])
    if given.fit:
        trust = {
            kind: (MESSAGES if pattern.endswith(".mo") else 1.0) / np.sqrt(len(kinds[kind]) or 1)
            for kind, pattern in (t.split("=") for t in given.texts)
        }
        weights = np.array([trust[kind] for kind, _ in rows])
        texts = [text for (_, text), use in zip(rows, fitting, strict=True) if use]
        found = fit(texts, median[fitting], weights[fitting])
        for name, weight in zip(tokens.WEIGHTS, found, strict=True):
            print(f'    "{name}": {weight:.3f},')
        return
    estimates = np.array([tokens.count(text) for _, text in rows])
    print("| text | pieces | bytes a token | bias | mean error | p95 | " + " | ".join(vocabularies) + " |")
    print("|---|" + "---:|" * (5 + len(vocabularies)))
    for kind in kinds:
        of = np.array([k == kind for k, _ in rows]) & ~fitting
        if not of.any():
            continue
        off = estimates[of] / median[of] - 1
        size = sum(len(text.encode()) for (_, text), use in zip(rows, of, strict=True) if use)
        each = [abs(estimates[of] / counts[of, i] - 1).mean() for i in range(len(vocabularies))]
        shown = [off.mean(), abs(off).mean(), np.quantile(abs(off), 0.95), *each]
        print(
            f"| {kind} | {of.sum()} | {size / median[of].sum():.2f} | {shown[0]:+.1%} | "
            + " | ".join(f"{value:.1%}" for value in shown[1:])
            + " |"
        )


if __name__ == "__main__":
    main()
