"""Changes to a prompt that change nothing of what it asks: a router should not mind them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_OPTIONS = re.compile(r"^[A-J]\. .*$", re.M)
_BEFORE = (
    "Please ",
    "Hi! ",
    "Hello, could you please help me? ",
    "Hey there, ",
    "Kindly answer: ",
    "Can you please tell me: ",
)
_AFTER = ("\nThanks!", " Thank you so much.", " Please.", "\n\nThanks in advance!", "  thanks")


def case(text: str, rng: random.Random) -> str:
    """Lower case, upper case, or the first letters swapped."""
    return rng.choice((str.lower, str.upper, lambda t: t[:1].swapcase() + t[1:]))(text)


def spacing(text: str, rng: random.Random) -> str:
    """Double some spaces and lines, add some around."""
    wider = re.sub(r"[ \n]", lambda m: m[0] * (2 if rng.random() < 0.2 else 1), text)
    return rng.choice(("", " ", "\n")) + wider + rng.choice(("", "  ", "\n\n"))


def typos(text: str, rng: random.Random) -> str:
    """Swap, drop or double a letter in about one of 25 words, in one at least."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    for i in rng.sample(long, min(len(long), 1 + len(words) // 25)):
        word, at = words[i], rng.randrange(1, len(words[i]) - 1)
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        words[i] = rng.choice((swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]))
    return " ".join(words)


def politeness(text: str, rng: random.Random) -> str:
    """Say please, or thanks, or both."""
    start, end = rng.choice(((1, 0), (0, 1), (1, 1)))
    return (rng.choice(_BEFORE) if start else "") + text + (rng.choice(_AFTER) if end else "")


def order(text: str, rng: random.Random) -> str:
    """Shuffle the options of a choice; a text without options stays as it is."""
    options = _OPTIONS.findall(text)
    said = [option[3:] for option in options]
    rng.shuffle(said)
    fresh = iter([option[:3] + new for option, new in zip(options, said, strict=True)])
    return _OPTIONS.sub(lambda _: next(fresh), text)


def ending(text: str, rng: random.Random) -> str:
    """Drop or add punctuation at the end."""
    bare = text.rstrip(" .?!:\n")
    return bare + rng.choice(("", ".", "?", "!", " ?", "..."))


KINDS: dict[str, Callable[[str, random.Random], str]] = {
    f.__name__: f for f in (case, spacing, typos, politeness, order, ending)
}


def perturbed(text: str, rng: random.Random) -> str:
    """Return the text with two of the changes."""
    for name in rng.sample(list(KINDS), 2):
        text = KINDS[name](text, rng)
    return text
