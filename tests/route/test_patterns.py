"""Which regular expressions are taken: valid ones that are fast on every text."""

import re
from time import thread_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.patterns import LIMIT, problem_of
from hasten.settings import PATTERN_CHARS

unhurried = settings(deadline=None)  # a shared machine may stall for longer than an example takes
GOOD = [
    "hello",
    r"^(hi|hello|hey)\b",
    r"\b(refund|money back)\b",
    r"refund.*order",
    r"^\s*(thanks?|thank you)[.! ]*$",
    r"\border\s+#?\d{4,}\b",
    r"translate .+ (in)?to (french|german)",
    r"[^?]*\?$",
    r"^(?=.*invoice)(?=.*copy)",
    r"(\d{1,3}[,.])*\d+",
    r"\b(\w+)\s+\1\b",
    r"^.{0,20}$",
    r"(?<!not )\bagree\b",
    r"(a)?(?(1)b|c)",
    "日本",
    "(?s).",
    "",
]
SLOW = [
    r"(a+)+b",
    r"(a|aa)+$",
    r"hello (\w+\s?)+!",
    r"(.*)*x",
    r"a*a*a*a*b",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"(ab|[a-z]{2})+9",
    r"(a[bc]|[ad]c)+$",
    r"([^a]|\d\d|\d)+!",
    r"(?>x)(?=(y+)+z)",
]
INVALID = ["(", "*a", "a{2,1}", "[z-a]", "(?P<x>a)(?P<x>b)", "a{99999999999}", "[[a]"]


@pytest.mark.parametrize("pattern", GOOD)
def test_good(pattern: str) -> None:
    assert problem_of(pattern) is None


@pytest.mark.parametrize("pattern", SLOW)
def test_slow(pattern: str) -> None:
    assert "too slow" in (problem_of(pattern) or "")


@pytest.mark.parametrize("pattern", INVALID)
def test_invalid(pattern: str) -> None:
    assert (problem_of(pattern) or "").startswith("no valid regular expression: ")


@unhurried
@given(st.text("ab01 (|)*+?[]{}^$.\\d", max_size=12))
def test_any_text_is_judged_in_good_time(pattern: str) -> None:
    since = thread_time()
    wrong = problem_of(pattern)
    assert thread_time() - since < 20
    if wrong is None:
        compiled = re.compile(pattern, re.IGNORECASE)
        for text in ("a" * PATTERN_CHARS, "ab" * (PATTERN_CHARS // 2), "0 " * (PATTERN_CHARS // 2)):
            since = thread_time()
            compiled.search(text)
            assert thread_time() - since < 10 * LIMIT
