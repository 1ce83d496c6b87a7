"""``hasten train-router``: fit a router of one's own to recorded traffic and its outcomes, if that is better."""

from __future__ import annotations

import argparse
import importlib
import math
import tempfile
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from hasten.errors import HastenError
from hasten.fields import Message
from hasten.route.complexity import Complexity
from hasten.route.conversation import text_of

FOLDS = 5
_EDGE = 1e-4  # scores are taken as at least this far from 0 and 1

#: A prompt and its gain: how much better the strong tier answered than the weak one, -1 to 1.
Row = tuple[str, float]


class Line(msgspec.Struct):
    """A line of the log: see docs/routing.md. Other fields, such as the request log's, are left alone."""

    id: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    request: str | None = None  # the request log's: a body
    served_model: str | None = None
    small: float | None = None
    large: float | None = None
    score: float | None = None
    label: Literal["good", "bad"] | None = None

    def text(self) -> str | None:
        """Return what a router judges: the prompt, or the user's last turn."""
        if self.prompt is not None:
            return self.prompt
        for message in reversed(self.messages or ()):
            if message.role == "user":
                return text_of(message)
        if self.request is None:
            return None
        try:
            return msgspec.json.decode(self.request, type=_Body).text()
        except msgspec.DecodeError:  # cut, or no chat
            return None

    def gain(self) -> float | None:
        """Return how much better the strong tier did; of the weak one's answer alone: how far it fell short of 1."""
        if self.small is not None and self.large is not None:
            return min(1.0, max(-1.0, self.large - self.small))
        if self.score is not None:
            return 1.0 - min(1.0, max(0.0, self.score))
        return None if self.label is None else float(self.label == "bad")

    @property
    def compared(self) -> bool:
        """Whether both tiers' answers were scored."""
        return self.small is not None and self.large is not None


class _Body(msgspec.Struct):
    messages: list[Message] | None = None
    prompt: str | None = None

    def text(self) -> str | None:
        return Line(prompt=self.prompt, messages=self.messages).text()


class Log(NamedTuple):
    """What a log gave: the rows, and how many lines or requests gave none."""

    rows: list[Row]
    left: int


def read(lines: Iterable[bytes], tier: str | None = None) -> Log:
    """Return the rows of a log. A prompt and its outcome may be in two lines of one ``id``.

    ``tier``: whose answers' outcomes count, where lines tell who answered. Raises :class:`HastenError` if several
    did and it is not given.
    """
    rows: list[Row] = []
    asked: dict[str, Line] = {}
    judged: dict[str, float] = {}
    served: set[str] = set()
    left = 0

    def take(line: Line, gain: float) -> None:
        text = line.text()
        if text and line.served_model and not line.compared:
            served.add(line.served_model)
            if tier is not None and line.served_model != tier:
                text = None
        if text:
            rows.append((text, gain))
        else:
            nonlocal left
            left += 1

    for raw in lines:
        try:
            line = msgspec.json.decode(raw, type=Line)
        except msgspec.DecodeError:
            left += bool(raw.strip())
            continue
        gain = line.gain()
        has_text = (line.prompt or line.messages or line.request) is not None
        if gain is not None and has_text:
            take(line, gain)
        elif line.id is None or (gain is None and not has_text):
            left += 1
        elif gain is not None:
            judged.setdefault(line.id, gain)  # the first one counts, as at /v1/feedback
        else:
            asked[line.id] = line
    left += len(asked.keys() ^ judged.keys())
    for id, line in asked.items():
        if id in judged:
            take(line, judged[id])
    if tier is None and len(served) > 1:
        raise HastenError(
            f"answers of several models were judged ({', '.join(sorted(served))}): say by --tier whose, the weakest's"
        )
    return Log(rows, left)


# -- the fit and its validation


def fitted(rows: Sequence[Row], folder: Path) -> Complexity:
    """Fit a router to ``rows``, write it to ``folder`` and return it. Raises :class:`HastenError`."""
    try:
        fit: Any = importlib.import_module("hasten.route.fit")
    except ModuleNotFoundError:
        raise HastenError("this build of hasten cannot fit routers") from None
    fit.save(fit.fit(rows), folder)
    return Complexity(folder)


class Compared(NamedTuple):
    """Two routers on prompts that neither was fitted to. ``loss``: log loss, nats; ``auc``: 0.5 is by chance.

    ``difference``: of the losses, fitted less shipped, with its 95% interval.
    """

    loss: tuple[float, float]
    auc: tuple[float, float]
    difference: tuple[float, float, float]

    @property
    def better(self) -> bool:
        """Whether the fitted one is surely better calibrated, and orders no worse."""
        return self.difference[2] < 0.0 and self.auc[1] >= self.auc[0]


def cross_validate(rows: Sequence[Row], shipped: Complexity) -> Compared:
    """Compare by k-fold cross-validation; equal prompts are in one fold together."""
    folds: list[list[Row]] = [[] for _ in range(FOLDS)]
    for row in rows:
        folds[blake2b(row[0].encode(), digest_size=1).digest()[0] % FOLDS].append(row)
    pairs: list[tuple[float, float, float]] = []  # score by the shipped one, by the fitted one, target
    for i, held in enumerate(folds):
        rest = [row for j, fold in enumerate(folds) if j != i for row in fold]
        with tempfile.TemporaryDirectory() as folder:
            router = fitted(rest, Path(folder))
        pairs += [(shipped.score(text), router.score(text), max(0.0, gain)) for text, gain in held]
    n = len(pairs)
    losses = [(loss(old, y), loss(new, y)) for old, new, y in pairs]
    gaps = [new - old for old, new in losses]
    mean = sum(gaps) / n
    half = 1.96 * math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / max(1, n - 1) / n)
    targets = [y for _, _, y in pairs]
    return Compared(
        (sum(old for old, _ in losses) / n, sum(new for _, new in losses) / n),
        (auc([old for old, _, _ in pairs], targets), auc([new for _, new, _ in pairs], targets)),
        (mean - half, mean, mean + half),
    )


def loss(score: float, y: float) -> float:
    """Return the log loss, nats; ``y`` may lie between 0 and 1."""
    p = min(1.0 - _EDGE, max(_EDGE, score))
    return -y * math.log(p) - (1.0 - y) * math.log(1.0 - p)


def auc(scores: Sequence[float], targets: Sequence[float]) -> float:
    """Return how likely a prompt at which the weak tier fell short has the higher score (Mann and Whitney 1947).

    Targets between 0 and 1 count for both kinds; 0.5 if there is one kind only.
    """
    groups: dict[float, tuple[float, float]] = {}
    for score, y in zip(scores, targets, strict=True):
        short, well = groups.get(score, (0.0, 0.0))
        groups[score] = short + y, well + 1.0 - y
    below = won = 0.0
    for score in sorted(groups):
        short, well = groups[score]
        won += short * (below + well / 2.0)
        below += well
    pairs = sum(targets) * below
    return won / pairs if pairs else 0.5


# -- the command


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("train-router", help="fit a router to your own traffic and its outcomes")
    parser.add_argument(
        "log", metavar="LOG", help="JSON lines with prompts and outcomes, see docs/routing.md"
    )
    parser.add_argument("--out", metavar="FOLDER", default="router", help="default: %(default)s")
    parser.add_argument("--tier", metavar="NAME", help="the weakest tier: only its answers' judgements count")
    parser.add_argument("--force", action="store_true", help="write it even if it is not better")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fit, validate, write; return 1 if it was not better and so not written."""
    try:
        with open(args.log, "rb") as file:
            rows, left = read(file, args.tier)
    except OSError as exc:
        raise HastenError(f"{args.log} cannot be read: {exc.strerror}") from None
    if not rows:
        raise HastenError(f"{args.log} has no prompt with an outcome ({left} lines were left out)")
    short = sum(max(0.0, gain) for _, gain in rows) / len(rows)
    print(f"{len(rows)} prompts with an outcome; at {100 * short:.0f}% the weak tier fell short", end="")
    print(f"; {left} lines or requests without both were left out" if left else "")
    found = cross_validate(rows, Complexity())
    low, mean, high = found.difference
    print(f"{FOLDS}-fold cross-validation       shipped   fitted")
    print(f"  log loss                {found.loss[0]:9.4f}{found.loss[1]:9.4f}", end="")
    print(f"   difference {mean:+.4f}, 95% interval {low:+.4f} to {high:+.4f}")
    print(f"  order (AUC, 0.5: none)  {found.auc[0]:9.3f}{found.auc[1]:9.3f}")
    if not found.better:
        print("The fitted router is not better than the shipped one by more than chance.")
        if not args.force:
            print("Nothing was written; --force writes it all the same.")
            return 1
    else:
        print("The fitted router is better.")
    folder = Path(args.out)
    try:
        fitted(rows, folder)
    except OSError as exc:
        raise HastenError(f"{folder} cannot be written: {exc.strerror}") from None
    print(f"It is in {folder}; a model uses it by   route: {{router: {folder}}}")
    return 0
