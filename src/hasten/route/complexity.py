"""How hard a prompt is: the probability that the small tier falls short where the strong one does not.

A model is a folder with ``router.json``::

    {"version": 1, "names": [...],           the features it was fitted on: must be those of features.py
     "means": [...], "scales": [...],        of the dense features; they count in deviations, 4 at most
     "weights": {"choice": [...], "story": [...], "open": [...]},    one list for each form of prompt, of log-odds
     "biases": {"choice": 0.0, ...},
     "words": {"gram": [weight, norm]},      thousandths: sum(weight) / sqrt(sum(norm)) over the known grams of a text
     "prior": [...]}                         64 scores at even quantiles of the validation set

Both parts are ridge regressions on the gain of the strong tier over the weak one (training/router/train.py): on the
dense features, whose weights differ with the form of the prompt but are drawn to common ones, and on the tf-idf of
words and pairs.

A deployment's own model (:mod:`hasten.route.fit`) is instead a layer upon the frozen one::

    {"version": 1, "names": [...], "layer": {"means": [...], "scales": [...], "weights": [...], "bias": 0.0},
     "prior": [...]}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import msgspec

from hasten.errors import SettingsError
from hasten.route.features import FORMS, NAMES, Features, features

HERE = Path(__file__).parent / "model"
FILE = "router.json"
VERSION = 1
QUANTILES = 64
FAR = 4.0  # deviations: no input counts for more
MEMO_CHARS = 2000  # of a text that is remembered with its score: 1,024 of them are at most some megabytes

_Word = tuple[int, int]


class Layer(msgspec.Struct):
    """Weights of standardised inputs: the dense features, in a deployment's layer also the frozen log-odds, last."""

    means: list[float]
    scales: list[float]
    weights: list[float]
    bias: float

    def compiled(self) -> Callable[[Sequence[float]], float]:
        """Return a function from inputs to the log-odds, with all that does not depend on them worked out."""
        scaled = [w / s for w, s in zip(self.weights, self.scales, strict=True)]
        base = self.bias - sum(w * m for w, m in zip(scaled, self.means, strict=True))
        far = [FAR * s for s in self.scales]
        rows = [(m - d, m + d, w) for m, d, w in zip(self.means, far, scaled, strict=True)]

        def log_odds(inputs: Sequence[float]) -> float:
            return base + sum(
                [
                    w * (low if v < low else high if v > high else v)
                    for v, (low, high, w) in zip(inputs, rows, strict=True)
                ]
            )

        return log_odds

    def standard(self, inputs: Sequence[float]) -> list[float]:
        """Return the inputs in deviations from their means, 4 at most."""
        rows = zip(inputs, self.means, self.scales, strict=True)
        return [min(FAR, max(-FAR, (value - mean) / scale)) for value, mean, scale in rows]

    def terms(self, inputs: Sequence[float]) -> list[float]:
        """Return what each input adds to the log-odds."""
        return [weight * x for weight, x in zip(self.weights, self.standard(inputs), strict=True)]


class Stored(msgspec.Struct, omit_defaults=True):
    """What ``router.json`` holds."""

    version: int
    names: list[str]
    prior: Annotated[list[float], msgspec.Meta(min_length=1)]
    means: list[float] = []
    scales: list[float] = []
    weights: dict[str, list[float]] = {}
    biases: dict[str, float] = {}
    words: dict[str, _Word] = {}
    layer: Layer | None = None


class Complexity:
    """The frozen router that is shipped with the package, or a deployment's own. See ``training/router/README.md``.

    Raises :class:`SettingsError` for a folder without a usable model.
    """

    def __init__(self, folder: Path = HERE) -> None:
        self.folder = folder
        self._stored = stored = read(folder)
        self._layer = stored.layer
        self._own = self._layer.compiled() if self._layer is not None else None
        self._prior = sorted(stored.prior)
        if self._layer is not None:
            stored = read(HERE)
        if not stored.weights:
            raise SettingsError([f"{folder / FILE}: neither weights nor a layer"])
        self._known = lru_cache(1024)(self._score)
        self._words = stored.words
        self._forms = {
            form: Layer(stored.means, stored.scales, stored.weights[form], stored.biases[form])
            for form in FORMS
        }
        self._log_odds = {form: layer.compiled() for form, layer in self._forms.items()}

    def score(self, text: str) -> float:
        """Return the probability, 0..1. Short texts that come again (retries, fans of calls) are remembered."""
        return self._known(text) if len(text) <= MEMO_CHARS else self._score(text)

    def _score(self, text: str) -> float:
        return logistic(self.log_odds(text))

    def log_odds(self, text: str) -> float:
        """Return the score before it becomes a probability."""
        found = features(text)
        base = self._base(found)
        if self._own is None:
            return base
        return self._own([*found.dense, base])

    def explain(self, text: str) -> list[tuple[str, float]]:
        """Return what moved the score most, as changes of the log-odds, largest first.

        A feature's: against its mean, as prompts of this form weigh it. A word's or pair's: its own.
        """
        found = features(text)
        if self._layer is not None:
            terms = self._layer.terms([*found.dense, self._base(found)])
            moved = list(zip([*NAMES, "frozen router"], terms, strict=True))
        else:
            terms = self._forms[found.form].terms(found.dense)
            moved = [*zip(NAMES, terms, strict=True), *self._word_terms(found)]
        return sorted((m for m in moved if m[1]), key=lambda m: -abs(m[1]))

    def prior(self) -> list[float]:
        """Return scores of the validation set at even steps: what to expect before any traffic."""
        return list(self._prior)

    def _base(self, found: Features) -> float:
        return self._log_odds[found.form](found.dense) + self._word_sum(found)

    def _word_sum(self, found: Features) -> float:
        get = self._words.get
        total = norm = 0
        for gram in found.grams():
            known = get(gram)
            if known is not None:
                total += known[0]
                norm += known[1]
        return total / math.sqrt(norm * 1000) if norm else 0.0

    def _word_terms(self, found: Features) -> list[tuple[str, float]]:
        known = [(gram, self._words[gram]) for gram in found.grams() if gram in self._words]
        size = math.sqrt(sum(norm for _, (_, norm) in known) * 1000) or 1.0
        return [(f"“{gram}”", weight / size) for gram, (weight, _) in known]

    def __repr__(self) -> str:
        kind = "own" if self._layer is not None else "frozen"
        return f"<Complexity {kind} {self.folder}>"


def read(folder: Path) -> Stored:
    """Return the model in ``folder``. Raises :class:`SettingsError`."""
    path = folder / FILE
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=Stored)
    except OSError as exc:
        raise SettingsError([f"no router in {folder}: {exc.strerror or exc}"]) from None
    except msgspec.DecodeError as exc:
        raise SettingsError([f"{path}: {exc}"]) from None
    if stored.version != VERSION or tuple(stored.names) != NAMES:
        raise SettingsError([f"{path}: made for another version of Hasten; train it anew"])
    _check(path, stored)
    return stored


def _check(path: Path, stored: Stored) -> None:
    """Raise :class:`SettingsError` for arrays that do not fit each other."""
    inputs = len(NAMES)
    parts = [*stored.weights.values(), stored.means, stored.scales] if stored.weights else []
    good = all(len(part) == inputs for part in parts) and all(0.0 <= score <= 1.0 for score in stored.prior)
    if stored.weights:
        good = good and stored.weights.keys() == stored.biases.keys() == set(FORMS)
    layer = stored.layer
    if layer is not None:
        good = good and len(layer.means) == len(layer.scales) == len(layer.weights) == inputs + 1
    scales = layer.scales if layer is not None else stored.scales
    good = good and all(scale > 0.0 for scale in scales)
    if not good:
        raise SettingsError([f"{path}: its parts do not fit each other"])


def logistic(value: float) -> float:
    """Return the probability of a log-odds."""
    if value < 0.0:
        odds = math.exp(max(value, -700.0))
        return odds / (1.0 + odds)
    return 1.0 / (1.0 + math.exp(-min(value, 700.0)))
