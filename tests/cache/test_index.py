"""The index of vectors: what it finds, what it forgets, what it takes."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray

from hasten.cache.store import index as index_module
from hasten.cache.store.index import FEW, VectorIndex

Vectors = NDArray[np.float32]
WIDTH = 384
SCOPE = b"scope"


def unit(rows: NDArray[np.float64]) -> Vectors:
    made: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return made


def clustered(count: int, width: int = WIDTH, seed: int = 1) -> Vectors:
    """Return unit vectors as texts' embeddings are: twenty or so on each subject."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 20), width))
    made = centres[rng.integers(0, len(centres), count)] + 0.7 * rng.standard_normal((count, width))
    return unit(made)


def near_to(vectors: Vectors, count: int, seed: int = 2) -> Vectors:
    """Return as many other wordings of some of ``vectors``."""
    rng = np.random.default_rng(seed)
    made = vectors[rng.choice(len(vectors), count)] + 0.02 * rng.standard_normal((count, vectors.shape[1]))
    return unit(made)


def key(number: int) -> bytes:
    return b"%d" % number


def recall(index: VectorIndex, vectors: Vectors, alive: list[int]) -> float:
    """Return which part of the true three nearest of those alive is found."""
    asked = near_to(vectors[alive], 400)
    best = np.argsort(-(asked @ vectors[alive].T), axis=1)[:, :3]
    found = [{each for each, _ in index.near(SCOPE, one, 3)} for one in asked]
    wanted = [{key(alive[at]) for at in row} for row in best.tolist()]
    return sum(len(a & b) for a, b in zip(found, wanted, strict=True)) / 1200


def test_nothing() -> None:
    index = VectorIndex()
    assert SCOPE not in index
    assert index.near(SCOPE, clustered(1)[0], 3) == []
    index.remove(SCOPE, b"none")
    index.drop(SCOPE)
    assert index.nbytes == 0


def test_similarities_in_order() -> None:
    vectors = clustered(100)
    index = VectorIndex()
    for number, vector in enumerate(vectors):
        index.add(SCOPE, key(number), vector)
    for asked in near_to(vectors, 20):
        found = index.near(SCOPE, asked, 5)
        scores = [similarity for _, similarity in found]
        assert len(found) == 5
        assert scores == sorted(scores, reverse=True)
        assert scores == pytest.approx([float(asked @ vectors[int(each)]) for each, _ in found], abs=0.002)


def test_a_vector_of_zeros() -> None:
    index = VectorIndex()
    index.add(SCOPE, b"zero", np.zeros(WIDTH, np.float32))
    assert index.near(SCOPE, clustered(1)[0], 1) == [(b"zero", 0.0)]


def test_a_graph_finds_what_comparing_all_finds() -> None:
    vectors = clustered(2500)
    index = VectorIndex()
    for number, vector in enumerate(vectors):
        index.add(SCOPE, key(number), vector)
        if number in (FEW - 1, FEW + 50):  # compared; on the way into the graph
            assert recall(index, vectors, list(range(number + 1))) >= 0.98
    assert recall(index, vectors, list(range(2500))) >= 0.98

    for number in range(0, 2500, 3):  # replaced, and every second removed
        index.add(SCOPE, key(number), vectors[number])
    for number in range(0, 2500, 2):
        index.remove(SCOPE, key(number))
    alive = list(range(1, 2500, 2))
    assert index.count(SCOPE) == len(alive)
    assert recall(index, vectors, alive) >= 0.98


def test_a_graph_with_many_gaps_is_made_anew_little_by_little() -> None:
    vectors = clustered(2000, width=64)
    index = VectorIndex()
    for number, vector in enumerate(vectors):
        index.add(SCOPE, key(number), vector)
    most, slowest = index.nbytes, 0.0
    for number in range(1990):
        since = time.thread_time()
        index.remove(SCOPE, key(number))
        slowest = max(slowest, time.thread_time() - since)
    assert index.nbytes < most / 50
    assert slowest < 0.05
    assert {each for each, _ in index.near(SCOPE, vectors[1990], 20)} == {
        key(each) for each in range(1990, 2000)
    }
    for number in range(1990, 2000):
        index.remove(SCOPE, key(number))
    assert SCOPE not in index
    assert index.nbytes == 0


def test_without_usearch_all_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_graph_kind", lambda: None)
    vectors = clustered(FEW + 100, width=32)
    index = VectorIndex()
    for number, vector in enumerate(vectors):
        index.add(SCOPE, key(number), vector)
    assert index.near(SCOPE, vectors[0], 1)[0][0] == key(0)
    assert index.near(SCOPE, vectors[FEW + 99], 1)[0][0] == key(FEW + 99)


@pytest.mark.parametrize("each", [1, 5, 100])
def test_it_counts_the_memory_it_takes(each: int) -> None:
    vectors = clustered(1000)
    names = [(b"scope %d" % (number // each), key(number)) for number in range(1000)]
    tracemalloc.start()
    index = VectorIndex()
    index.add(b"", b"", vectors[0])
    before, counted = tracemalloc.get_traced_memory()[0], index.nbytes
    for (scope, name), vector in zip(names, vectors, strict=True):
        index.add(scope, name, vector)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert index.nbytes - counted == pytest.approx(taken, rel=0.2)


class Model(RuleBasedStateMachine):
    """An index of few against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.index = VectorIndex()
        self.model: dict[tuple[bytes, bytes], Vectors] = {}
        self.vectors = clustered(64, width=16)

    scopes = st.sampled_from([b"a", b"b"])
    keys = st.integers(0, 12).map(key)

    @rule(scope=scopes, name=keys, number=st.integers(0, 63))
    def add(self, scope: bytes, name: bytes, number: int) -> None:
        self.index.add(scope, name, self.vectors[number])
        self.model[scope, name] = self.vectors[number]

    @rule(scope=scopes, name=keys)
    def remove(self, scope: bytes, name: bytes) -> None:
        self.index.remove(scope, name)
        self.model.pop((scope, name), None)

    @rule(scope=scopes)
    def drop(self, scope: bytes) -> None:
        self.index.drop(scope)
        self.model = {at: vector for at, vector in self.model.items() if at[0] != scope}

    @rule(scope=scopes, number=st.integers(0, 63))
    def near(self, scope: bytes, number: int) -> None:
        asked = self.vectors[number]
        found = dict(self.index.near(scope, asked, 100))
        assert found == {
            name: pytest.approx(float(asked @ vector), abs=0.01)
            for (of, name), vector in self.model.items()
            if of == scope
        }

    @invariant()
    def counts(self) -> None:
        for scope in (b"a", b"b"):
            count = sum(of == scope for of, _ in self.model)
            assert self.index.count(scope) == count
            assert (scope in self.index) == (count > 0)
        assert (self.index.nbytes > 0) == bool(self.model)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
