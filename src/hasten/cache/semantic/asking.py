"""What kind of question a text asks: how much, when, who, yes or no ..."""

from __future__ import annotations

from collections.abc import Sequence

from hasten.cache.semantic.words import listed

# A question word counts at the start, after a stop, and after one of these.
_AFTER = listed(
    """
    , . : ; ? ! and so but me know wondering in at on for by from to with of then just about tell
    """
)
_STOPS = frozenset(",.:;?!")
_HOW = {
    "much": "how much",
    "many": "how many",
    "long": "how long",
    "often": "how often",
    "frequently": "how often",
}
_HOW |= {"far": "how far", "old": "how old", "soon": "when", "early": "when", "late": "when", "come": "why"}
_WHAT = {"time": "when", "date": "when", "year": "when", "day": "when", "month": "when", "place": "where"}
_WHAT |= {
    "country": "where",
    "city": "where",
    "person": "who",
    "price": "how much",
    "cost": "how much",
    "age": "how old",
}
_COUNTED = {"times": "how often", "time": "how long"}
_VERBS = listed(
    """
    is are do does did can could should would will may must am was were has have had
    """
)
_OFFERED = frozenset(("can", "could", "would", "will"))  # "could you show me": a request
#: "is there a way to", "is it better to rent or to buy": not a matter of yes or no.
_OPEN = listed("way ways possible how what idea tips advice or means")


def asks(tokens: Sequence[str]) -> str:
    """Return the kind of question, or "" where it is vague, mixed or not a question."""
    found: set[str] = set()
    before = "."
    for at, token in enumerate(tokens):
        if before in _AFTER:
            kind = _kind(token, tokens[at + 1 : at + 3], before in _STOPS)
            if kind:
                found.add(kind)
        before = token
    if len(found) != 1:
        return ""
    kind = found.pop()
    vague = kind == "what" or (kind == "yes-no" and not _OPEN.isdisjoint(tokens))
    return "" if vague else kind


def _kind(token: str, after: Sequence[str], begins: bool) -> str:
    following = after[0] if after else ""
    if token == "how":
        if following in ("many", "much") and len(after) > 1 and after[1] in _COUNTED:
            return _COUNTED[after[1]]
        return _HOW.get(following) or ("how" if following in _VERBS or following in ("to", "i") else "what")
    if token in ("what", "which"):
        return _WHAT.get(following, "what")
    if token in ("when", "where"):
        return token if following in _VERBS or following == "to" else ""  # else: "when I sign up, ..."
    if token == "why":
        return token
    if token in ("who", "whom", "whose"):
        return "who"
    if begins and token in _VERBS:
        return "" if token in _OFFERED and following == "you" else "yes-no"
    return ""
