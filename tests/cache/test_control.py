"""What a client may say about caching, and what it is told when it says something else."""

from __future__ import annotations

import pytest

from hasten.cache.control import DEFAULT, read
from hasten.errors import InvalidField


def test_nothing_said() -> None:
    assert read({b"accept": b"*/*"}) is DEFAULT


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({b"x-hasten-cache": b"bypass"}, "bypass"),
        ({b"x-hasten-cache": b" Bypass "}, "bypass"),
        ({b"cache-control": b"no-store"}, "bypass"),
        ({b"cache-control": b"private, No-Store"}, "bypass"),
        ({b"x-hasten-cache": b"refresh"}, "refresh"),
        ({b"cache-control": b"no-cache"}, "refresh"),
        ({b"x-hasten-cache": b"exact"}, "exact_only"),
    ],
)
def test_wishes(headers: dict[bytes, bytes], field: str) -> None:
    control = read(headers)
    assert [f for f in ("bypass", "refresh", "exact_only") if getattr(control, f)] == [field]


def test_ages() -> None:
    assert read({b"cache-control": b"max-age=60"}).max_age == 60
    assert read({b"cache-control": b"max-age=60", b"x-hasten-cache-max-age": b"5"}).max_age == 5
    assert read({b"x-hasten-cache-ttl": b"10"}).ttl == 10


def test_tags() -> None:
    assert read({b"x-hasten-cache-tags": b"docs, v2 ,docs,"}).tags == ("docs", "v2")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-hasten-cache", b"never"),
        ("x-hasten-cache-max-age", b"soon"),
        ("x-hasten-cache-max-age", b"-1"),
        ("x-hasten-cache-ttl", b"1.5"),
        ("x-hasten-cache-tags", b"a b"),
        ("x-hasten-cache-tags", b"tag:\xff"),
        ("x-hasten-cache-tags", b",".join([b"t%d" % i for i in range(17)])),
    ],
)
def test_what_is_not_allowed_names_the_header(name: str, value: bytes) -> None:
    with pytest.raises(InvalidField) as caught:
        read({name.encode(): value})
    assert caught.value.param == name
    assert name in caught.value.message


def test_a_directive_of_others_is_no_error() -> None:
    control = read({b"cache-control": b"max-age=abc, stale-if-error=3, public"})
    assert (control.bypass, control.refresh, control.max_age) == (False, False, None)
