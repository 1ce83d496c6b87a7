"""The real models: MiniLM, and the verifier that comes with Hasten."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hasten.cache.make import load
from hasten.engines import weights

MISSING = [n for n in ("numpy", "onnxruntime", "tokenizers") if importlib.util.find_spec(n) is None]
PATH = None if MISSING else weights.resolve("all-minilm-l6-v2")

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"the extra 'semantic' is not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(
        PATH is None, reason="all-minilm-l6-v2 is not here: hasten models pull all-minilm-l6-v2"
    ),
]

SIMILAR = [
    ("How do I reset my password?", "I forgot my password, what can I do?"),
    ("What is the capital of France?", "Which city is France's capital?"),
    ("How long does shipping take?", "When will my parcel arrive?"),
]
TEXTS = [text for pair in SIMILAR for text in pair]


@pytest.fixture(scope="module")
def embed() -> Callable[[Sequence[str]], list[Any]]:
    from hasten.cache.semantic.models import Embedder

    assert PATH is not None
    return Embedder(PATH)


@pytest.fixture(scope="module")
def verify() -> Callable[[Sequence[tuple[str, str]]], list[float]]:
    from hasten.cache.semantic.models import VERIFIER, Verifier

    if not VERIFIER.exists():
        pytest.skip("the verifier is not built: make verifier")
    return Verifier()


def test_embeddings_are_of_unit_length(embed: Any) -> None:
    for vector in embed([*TEXTS, "", "x" * 5000, "日本語 🙂"]):
        assert vector.shape == (384,)
        assert vector.dtype == "float32"
        assert float(vector @ vector) == pytest.approx(1.0, abs=1e-3)


def test_similar_questions_are_nearer_than_others(embed: Any) -> None:
    vectors = embed(TEXTS)
    for i in range(0, len(TEXTS), 2):
        near = vectors[i] @ vectors[i + 1]
        far = max(vectors[i] @ v for at, v in enumerate(vectors) if at // 2 != i // 2)
        assert near > far + 0.1


def test_an_embedding_does_not_depend_on_its_batch(embed: Any) -> None:
    alone = [embed([text])[0] for text in TEXTS]
    for size in (2, 3, 6):
        for start in range(0, len(TEXTS), size):
            batch = embed(TEXTS[start : start + size])
            for one, other in zip(alone[start:], batch, strict=False):
                assert abs(1 - float(one @ other)) < 1e-2
    padded = embed([TEXTS[0], "word " * 150])[0]
    assert abs(1 - float(alone[0] @ padded)) < 1e-2


def test_a_pair_has_one_score_whatever_its_batch(verify: Any) -> None:
    pairs = [*SIMILAR, *[(b, a) for a, b in SIMILAR], (TEXTS[0], TEXTS[3]), (TEXTS[1], TEXTS[5])]
    scores = verify(pairs)
    assert len(scores) == len(pairs)
    assert all(isinstance(score, float) for score in scores)
    assert scores == [verify([pair])[0] for pair in pairs]
    assert verify([pairs[0], ("word " * 100, "word " * 100)])[0] == scores[0]


def test_the_verifier_tells_the_same_from_another(verify: Any) -> None:
    same, other = verify([SIMILAR[0], (TEXTS[0], TEXTS[2])])
    assert same > other


def test_all_of_it_loads(verify: Any) -> None:
    from hasten.cache.semantic.models import HERE

    if not (HERE / "verifier.json").exists():
        pytest.skip("the verifier is not calibrated: make verifier")
    assert PATH is not None
    models = load(PATH)
    assert models.calibration.b > 0
    assert "password" in models.words
