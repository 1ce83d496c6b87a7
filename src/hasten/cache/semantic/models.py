"""The two models, on ONNX Runtime: MiniLM embeds a question, the verifier judges a pair.

Both read BERT's uncased WordPiece vocabulary. One thread each call: the gateway's other work needs the cores too.
Imported only where the semantic cache is on: it needs the extra ``semantic``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer

Vector = NDArray[np.float32]
HERE = Path(__file__).parent / "model"
VOCABULARY = HERE / "vocab.txt"
VERIFIER = HERE / "verifier.onnx"
MAX_TOKENS = 160
log = logging.getLogger("hasten.cache")


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def tokenizer() -> Any:
    """Return the tokenizer of both models, padding to the longest of a batch."""
    made = BertWordPieceTokenizer(str(VOCABULARY), lowercase=True)
    made.enable_truncation(MAX_TOKENS)
    made.enable_padding()
    return made


def _inputs(encoded: Sequence[Any], names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    made = {
        "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
        "attention_mask": np.array([e.attention_mask for e in encoded], dtype=np.int64),
        "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
    }
    return {name: made[name] for name in names}


class Embedder:
    """all-MiniLM-L6-v2 (Reimers and Gurevych 2019; int8): texts to unit vectors of 384 floats."""

    def __init__(self, path: Path) -> None:
        self._session = _session(path)
        self._names = [i.name for i in self._session.get_inputs()]
        self._tokenizer = tokenizer()

    def __call__(self, texts: Sequence[str]) -> list[Vector]:
        """Return a vector of unit length for each text: the mean of its tokens' last states."""
        inputs = _inputs(self._tokenizer.encode_batch(list(texts)), self._names)
        states = self._session.run(None, inputs)[0]
        if states.ndim == 3:
            mask = inputs["attention_mask"][:, :, None].astype(np.float32)
            states = (states * mask).sum(1) / mask.sum(1)
        states = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
        return list(states.astype(np.float32))


class Verifier:
    """The cross-encoder: (answered question, asked question) to a logit, > 0 for "the same answer"."""

    def __init__(self, path: Path = VERIFIER) -> None:
        self._session = _session(path)
        self._names = [i.name for i in self._session.get_inputs()]
        self._tokenizer = tokenizer()

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return a logit for each pair."""
        return [self._score(pair) for pair in pairs]

    def _score(self, pair: tuple[str, str]) -> float:
        # One by one: activations are quantised by what is in the batch, and a score must not depend on its neighbours.
        inputs = _inputs([self._tokenizer.encode(*pair)], self._names)
        return float(self._session.run(None, inputs)[0].reshape(-1)[0])
