"""The single guards: each tells one kind of conflict between two questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hasten.cache.semantic.amounts import Amount
from hasten.cache.semantic.kinds import KINDS
from hasten.cache.semantic.opposites import OPPOSITES, TWO_SIDED
from hasten.cache.semantic.places import PLACES
from hasten.cache.semantic.profile import Profile
from hasten.cache.semantic.siblings import LOOSE
from hasten.cache.semantic.words import listed

#: Shares of the shorter text's content words that stand in the other too.
CLOSE = 0.6
HALF = 0.5
RELATED = 0.2


@dataclass(slots=True)
class Pair:
    """Two profiles and how far they speak of the same."""

    one: Profile
    other: Profile
    overlap: float


def pair(one: Profile, other: Profile) -> Pair:
    """Compare the content words of two texts."""
    shorter = min(len(one.stems), len(other.stems))
    return Pair(one, other, len(one.stems & other.stems) / shorter if shorter else 0.0)


def question(both: Pair) -> str | None:
    """Two kinds of question that no rewording turns into one another."""
    asked, other = both.one.asks, both.other.asks
    if (
        asked == other
        or not asked
        or not other
        or frozenset((asked.replace(" ", "_"), other.replace(" ", "_"))) in _ONE_QUESTION
    ):
        return None
    return f"question: {asked} / {other}"


#: Kinds of question that may be the same: "how long", "how many hours".
_ONE_QUESTION = frozenset(
    frozenset(kinds.split("/"))
    for kinds in listed(
        """
        how/where who/yes-no how_long/how_many where/who how_many/how_much how_long/when how_many/when
        how_far/how_much how_far/how_many how_far/how_long how_many/how_old how_old/when how_far/when how_old/how_much
        how_far/how_old how/how_many how_often/yes-no how_often/when how_many/how_often
        """
    )
)


def numbers(both: Pair) -> str | None:
    """Both name a number that the other does not."""
    one, other = both.one, both.other
    if not one.amounts or not other.amounts or both.overlap < RELATED:
        return None
    if not (_PARTS.isdisjoint(one.words) and _PARTS.isdisjoint(other.words)):
        return None
    left = [x for x in one.amounts if x.token and not any(x.same(y) for y in other.amounts)]
    right = [x for x in other.amounts if x.token and not any(x.same(y) for y in one.amounts)]
    apart = not _ANOTHER.isdisjoint(one.words | other.words)  # "from one to another": two
    for x in left:
        for y in right:
            if not (apart and (1.0 in x.readings or 1.0 in y.readings)) and _comparable(x, y):
                return f"number: {x.token} / {y.token}"
    return None


#: Beside these a number may be said in another way: "half past nine", "a pair of dice".
_PARTS = listed("half quarter quarters past third double twice dice couple recurring repeating")
_ANOTHER = listed("another other others each enough both")


def _comparable(x: Amount, y: Amount) -> bool:
    if 1.0 in x.readings or 1.0 in y.readings:  # "one" may be "a"
        return x.after != "" and (x.after[:3] == y.after[:3] or (x.family == y.family != ""))
    sorts = {x.sort, y.sort}
    if sorts == {"plain", "year"}:
        return len(x.token) == len(y.token)
    return len(sorts) == 1 or ("plain" in sorts and "rank" not in sorts)


def codes(both: Pair) -> str | None:
    """Both name a code that differs in its digits alone: "ps4" and "ps5"."""
    for x in both.one.codes:
        for y in both.other.codes:
            if (
                x != y
                and x not in both.other.words
                and y not in both.one.words
                and x.translate(_DIGITS) == y.translate(_DIGITS)
            ):
                return f"code: {x} / {y}"
    return None


_DIGITS = str.maketrans("", "", "0123456789")


def opposites(both: Pair) -> str | None:
    """One has a word, the other its opposite."""
    left, right = both.one.marks, both.other.marks
    for word in left - right:
        for opposite in OPPOSITES.get(word, ()):
            if opposite in right and opposite not in left:
                if "non" in (word[:3], opposite[:3]) and not _NOT_A.isdisjoint(left | right):
                    continue
                if (word in TWO_SIDED or opposite in TWO_SIDED) and not _beside(both, word, opposite):
                    continue
                return f"opposite: {word} / {opposite}"
    return None


_NOT_A = frozenset(("not", "non"))  # "not a resident" is "non-resident"


def _beside(both: Pair, word: str, opposite: str) -> bool:
    """Whether the same word stands before, or after, both."""
    shorter = min(len(both.one.stems), len(both.other.stems)) - 1
    if len(both.one.stems & both.other.stems) < CLOSE * shorter:
        return False
    one, other = both.one.tokens, both.other.tokens
    if "_" in word:
        word, opposite = word.split("_")[1], opposite.split("_")[-1]
    i, j = one.index(word), other.index(opposite)
    before = i > 0 and j > 0 and one[i - 1] == other[j - 1]
    after = i + 1 < len(one) and j + 1 < len(other) and one[i + 1] == other[j + 1]
    return before or after


_BRITISH = {"uk", "england"}


def kinds(both: Pair) -> str | None:
    """Both name a thing of one kind that the other does not."""
    for kind, left in both.one.things.items():
        right = both.other.things.get(kind)
        if right and left - right and right - left and {*(left - right), *(right - left)} != _BRITISH:
            if kind in LOOSE and both.overlap < HALF:
                continue
            return f"{kind}: {min(left - right)} / {min(right - left)}"
    return None


def names(both: Pair) -> str | None:
    """At the same place stands one name here, another there."""
    one, other = both.one, both.other
    if not one.names or not other.names:
        return None
    left = [name for name in one.names if _foreign_to(name, other)]
    right = [name for name in other.names if _foreign_to(name, one)]
    for x in left:
        for y in right:
            before, after = (i == j for i, j in zip(one.names[x], other.names[y], strict=True))
            if x.replace(".", "")[:4] == y.replace(".", "")[:4] or not (before or after) or _related(x, y):
                continue
            if both.overlap >= (RELATED if before and after else HALF):
                return f"entity: {x} / {y}"
    return None


def _foreign_to(name: str, text: Profile) -> bool:
    """Whether a name is in the text in no form, its initials included."""
    return name not in text.text and not (name.isalpha() and len(name) < 6 and name in text.initials)


def _related(x: str, y: str) -> bool:
    """Whether two names may be one: they are known, and not of one kind."""
    kinds_x, kinds_y = KINDS.get(x, ()), KINDS.get(y, ())
    if any(thing in kinds_y for thing in kinds_x):
        return True
    return any(kind in PLACES for kind, _ in (*kinds_x, *kinds_y))


def negation(both: Pair) -> str | None:
    """The same words, but for a negation."""
    one, other = both.one, both.other
    if (one.negations - other.negations) % 2 == 0:
        return None
    left, right = one.stems - _NEGATED, other.stems - _NEGATED
    if 5 * len(left & right) < 4 * len(left | right):
        return None
    return "negation"


_NEGATED = listed(
    """
    not never no witho none nobod nothi neith nor w/o must need want may might they we us
    """
)


def direction(both: Pair) -> str | None:
    """From here to there, or from there to here; the one than the other, or the other than the one."""
    if both.overlap < CLOSE or both.one.asks == "how far" or both.other.asks == "how far":
        return None
    for kind, source, target in both.one.ways:
        for other, start, end in both.other.ways:
            if kind != other or target & end:
                continue
            there, back = (source - start) & end, (start - source) & target
            if there and back:
                return f"direction: {min(there)} / {min(back)}"
    return None


def order(both: Pair) -> str | None:
    """Nearly the same words in another order: "Ann called Ben" / "Ben called Ann". Longer texts may differ a little."""
    one, other = both.one, both.other
    common, all_ = one.words & other.words, one.words | other.words
    if len(common) < _ALIKE * len(all_):
        return None
    if len(common) < _LONG and (one.words != other.words or not _EVEN.isdisjoint(all_)):
        return None
    left = [t for t in one.tokens if t in common and one.tokens.count(t) == 1 == other.tokens.count(t)]
    right = [t for t in other.tokens if t in left]
    left = [t for t in left if t in right]
    moved = next(((x, y) for x, y in zip(left, right, strict=True) if x != y), None)
    return None if moved is None else f"order: {moved[0]} / {moved[1]}"


_LONG = 8  # words in common from which even "A or B" must keep its order: what else moved cannot be told
_ALIKE = 0.75  # of all their words


_EVEN = listed(
    ", : and or not nor neither vs versus between with differ different compare compared similar same like"
)


def spans(both: Pair) -> str | None:
    """Both quote something short, and not the same."""
    one, other = both.one, both.other
    if not one.spans or not other.spans:
        return None
    if any(span in other.text for span in one.spans) or any(span in one.text for span in other.spans):
        return None
    if any(span.count(" ") > 5 for span in (*one.spans, *other.spans)):
        return None
    return f"quote: {one.spans[0]} / {other.spans[0]}"


CHECKS: tuple[Callable[[Pair], str | None], ...] = (
    question,
    numbers,
    codes,
    opposites,
    spans,
    kinds,
    names,
    negation,
    direction,
    order,
)
