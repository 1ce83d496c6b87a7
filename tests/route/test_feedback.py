"""Judging answers over HTTP: who may, what it counts for, what it teaches, in one worker and in two."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hasten import config
from hasten.errors import UnknownRequest
from hasten.route.book import Book
from hasten.route.recent import SLOTS, UNKNOWN, Recent, Served
from hasten.settings import Hold, Learn
from hasten.testing import ScriptedUpstream
from hasten.trace import Trace
from tests.gateway import Gateway, gateway
from tests.route.test_stage import ByLength

EASY, HARD = "Hi", "Prove it, please. " * 200
KEYS = {"acme": {"keys": ["key-of-acme-1234"]}, "beta": {"keys": ["key-of-beta-1234"]}}


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer key-of-{name}-1234"}


def models(**route: Any) -> dict[str, Any]:
    return {
        "small": {"engines": ["e0"], "price": {"input": 1, "output": 2}},
        "large": {"engines": ["e1"], "price": {"input": 10, "output": 20}},
        "m": {"tiers": ["small", "large"], "route": {"holdback": 0, "sticky": 0, **route}},
    }


@contextlib.asynccontextmanager
async def routed(route: dict[str, Any], **sections: Any) -> AsyncIterator[Gateway]:
    async with (
        ScriptedUpstream() as small,
        ScriptedUpstream() as large,
        gateway(small, large, models=models(**route), **sections) as gw,
    ):
        stage = gw.worker.app.route
        assert stage is not None
        stage.complexity = ByLength()  # type: ignore[assignment]
        yield gw


async def ask(gw: Gateway, text: str = EASY, headers: dict[str, str] | None = None, **fields: Any) -> str:
    """Return the id of a request that was answered."""
    answer = await gw.chat(
        model="m", messages=[{"role": "user", "content": text}], headers=headers or {}, **fields
    )
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


async def judge(gw: Gateway, id: str, headers: dict[str, str] | None = None, **said: Any) -> Any:
    answer = await gw.http.post(
        "/v1/feedback", json={"id": id, **(said or {"label": "bad"})}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_judgement_is_counted_once() -> None:
    async with routed({}) as gw:
        id = await ask(gw)
        told = {"id": id, "model": "m", "tier": "small", "counted": True}
        assert await judge(gw, id) == told
        assert await judge(gw, id, score=1) == {**told, "counted": False}
        other = await ask(gw, HARD, stream=True)
        assert await judge(gw, other, score=0.75) == {**told, "id": other, "tier": "large"}
        shown = (await gw.http.get("/admin/route")).json()["models"]["m"]
        assert shown["feedback"] == {"small": {"bad": 1}, "large": {"good": 1}}
        assert shown["measured"]["feedback"] == {"act": {"n": 2, "mean": 0.375}}
        assert shown["learning"] is None
        page = await gw.metrics()
        assert 'hasten_route_feedback_total{model="m",tier="small",verdict="bad"} 1' in page


async def test_only_a_clients_own_answers() -> None:
    async with routed({}, tenants=KEYS, server={"admin_keys": ["key-of-root-1234"]}) as gw:
        id = await ask(gw, headers=key("acme"))
        for name in ("beta", "root"):
            answer = await gw.http.post("/v1/feedback", json={"id": id, "label": "bad"}, headers=key(name))
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "unknown_request"
        assert (await gw.http.post("/v1/feedback", json={"id": id, "label": "bad"})).status_code == 401
        assert (await judge(gw, id, key("acme")))["counted"]
        same = {**key("beta"), "x-request-id": id}  # another tenant's request of the same id is another
        assert await ask(gw, headers=same) == id
        assert (await judge(gw, id, key("beta"), label="good"))["counted"]
        assert not (await judge(gw, id, key("acme")))["counted"]
        own = await ask(gw, headers=key("root"))
        assert (await judge(gw, own, key("root")))["counted"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"label": "bad"}, "id"),
        ({"id": "x"}, "expected one of"),
        ({"id": "x", "label": "bad", "score": 0}, "expected one of"),
        ({"id": "x", "label": "awful"}, "label"),
        ({"id": "x", "score": 1.5}, "score"),
        ({"id": "x", "score": "1"}, "score"),
        ({"id": "", "score": 1}, "id"),
        ({"id": "x", "score": 1, "comment": "nice"}, "comment"),
        ([], "array"),
    ],
)
async def test_bad_bodies(body: Any, said: str) -> None:
    async with routed({}) as gw:
        answer = await gw.http.post("/v1/feedback", json=body)
        assert answer.status_code == 400
        assert said in answer.json()["error"]["message"]


async def test_what_is_not_remembered() -> None:
    async with routed({}) as gw:
        plain = (await gw.chat(model="small")).headers["x-request-id"]  # was not routed
        for id in ("0" * 16, "ü\N{GRINNING FACE}", plain):
            answer = await gw.http.post("/v1/feedback", json={"id": id, "score": 1})
            assert answer.status_code == 404
            assert "no answer with this id" in answer.json()["error"]["message"]
    async with ScriptedUpstream() as up, gateway(up) as gw:  # nothing is routed here
        assert (await gw.http.post("/v1/feedback", json={"id": "x", "score": 1})).status_code == 404
        assert (await gw.http.get("/admin/route")).status_code == 404


async def test_the_page_tells_what_it_saves() -> None:
    async with routed({"holdback": 0.5, "hold": {"strong_share": 0}}) as gw:
        for i in range(40):
            await ask(gw, f"What is {i}?", stream=i % 2 == 0, stream_options={"include_usage": True})
        await ask(gw, headers={"x-hasten-route": "large"})  # chosen by the client: on neither side
        shown = (await gw.http.get("/admin/route")).json()["models"]["m"]
        measured, effect = shown["measured"], shown["effect"]
        assert sum(side["n"] for side in measured["e2e_seconds"].values()) == 40
        assert sum(side["n"] for side in measured["ttft_seconds"].values()) == 20
        cost = (10 + 2 * 7) / 1e6
        assert measured["cost"]["act"]["mean"] == pytest.approx(cost)
        assert measured["cost"]["holdback"]["mean"] == pytest.approx(10 * cost)
        assert effect["cost"]["estimate"] == pytest.approx(-9 * cost)
        assert effect["cost"]["saved"] == pytest.approx(9 * cost * measured["cost"]["act"]["n"])
        assert effect["e2e_seconds"]["lower"] <= effect["e2e_seconds"]["estimate"]
        assert shown["tiers"] == ["small", "large"]
        assert (shown["share"], shown["holdback"], shown["held_share"]) == (1, 0.5, 0)
        held = measured["cost"]["holdback"]["n"]
        assert shown["requests"]["large"] == {"holdback": held, "asked": 1}
        assert shown["realised_share"] == pytest.approx((held + 1) / 41)
        assert 'hasten_route_effect{model="m",measure="cost",bound="upper"} -' in await gw.metrics()


async def test_an_answer_by_a_fallback_is_counted_as_its_own() -> None:
    async with routed({"hold": {"strong_share": 0}}) as gw:
        gw.worker.app.dispatch.pools["small"].members[0].engine.move(None)  # type: ignore[attr-defined]
        told = await judge(gw, await ask(gw))
        assert told["tier"] == "large"


# -- learning

LEARN = {"learn": {"share": 1.0}, "hold": {"strong_share": 0}}


async def test_it_learns_from_the_weakest_tier_only(tmp_path: Path) -> None:
    path = tmp_path / "learnt.json"
    route = {**LEARN, "learn": {"share": 1, "path": str(path)}}
    async with routed(route) as gw:
        for i in range(30):
            await judge(gw, await ask(gw, f"What is {i}?"))
            strong = await ask(gw, f"Who is {i}?", headers={"x-hasten-route": "large"})
            await judge(gw, strong, label="good")
        learnt = (await gw.http.get("/admin/route")).json()["models"]["m"]["learning"]
        assert learnt["examples"] == learnt["log_loss"]["of_last"] == 30
        assert learnt["b"] > 0.3 or learnt["a"] < 0.9
        assert learnt["active"]
        assert 'hasten_route_learning{model="m"} 1' in await gw.metrics()
    async with routed(route) as gw:  # it is still there after a restart
        after = (await gw.http.get("/admin/route")).json()["models"]["m"]["learning"]
        assert after == learnt
        answer = await gw.http.post("/admin/route/reset", json={})
        assert answer.json() == {"reset": ["m"]}
        after = (await gw.http.get("/admin/route")).json()["models"]["m"]["learning"]
        assert (after["a"], after["b"], after["examples"]) == (1, 0, 0)


async def test_who_may_reset() -> None:
    async with routed(LEARN, tenants=KEYS) as gw:
        answer = await gw.http.post("/admin/route/reset", json={}, headers=key("acme"))
        assert answer.status_code == 403
    async with routed(LEARN, tenants=KEYS, server={"admin_keys": ["key-of-root-1234"]}) as gw:
        for body, status in (({}, 200), ({"model": "m"}, 200), ({"model": "small"}, 404), ({"x": 1}, 400)):
            answer = await gw.http.post("/admin/route/reset", json=body, headers=key("root"))
            assert answer.status_code == status


async def test_a_reload_that_leaves_routing_as_it_is_forgets_nothing() -> None:
    async with routed(LEARN) as gw:
        id = await ask(gw)
        await judge(gw, await ask(gw, "Who?"))
        gw.worker.reload(gw.worker.settings)
        assert (await judge(gw, id))["counted"]
        shown = (await gw.http.get("/admin/route")).json()["models"]["m"]
        assert shown["learning"]["examples"] == 2


async def test_a_reload_goes_on_with_what_did_not_change(tmp_path: Path) -> None:
    """Whatever else of the settings is new: other names, what is held, how much is applied."""
    async with routed(LEARN) as gw:
        ids = [await ask(gw) for _ in range(3)]
        await judge(gw, ids[0])
        stage = gw.worker.app.route
        assert stage is not None
        stage.routed["m"].keepers[0].debt = 7.0

        def reload(**route: Any) -> Any:
            given = gw.worker.settings.models
            changed = replace(given["m"], **{k: route.pop(k) for k in ("tiers",) if k in route})
            changed = replace(changed, route=replace(changed.route, **route))
            more = {"again": replace(given["m"], tiers=("large", "small"))}
            gw.worker.reload(replace(gw.worker.settings, models={**given, **more, "m": changed}))
            assert gw.worker.app.route is not None
            return gw.worker.app.route

        async def learning() -> Any:
            return (await gw.http.get("/admin/route")).json()["models"]["m"]["learning"]

        learnt = await learning()
        assert reload(holdback=0.5).routed["m"].keepers[0].debt == 7.0
        assert await learning() == learnt
        assert (await judge(gw, ids[1]))["counted"]
        learnt = await learning()
        assert learnt["examples"] == 2
        assert reload(hold=Hold(strong_share=0.3)).routed["m"].keepers[0].debt == 0.0
        # Another share of it, then a file as well: the numbers are the same.
        kept = tmp_path / "learnt.json"
        for learn in (Learn(share=0.5), Learn(share=0.5, path=str(kept))):
            reload(learn=learn)
            assert await learning() == {**learnt, "share": 0.5, "log_loss": (await learning())["log_loss"]}
        assert (await judge(gw, ids[2]))["counted"]
        assert kept.exists()
        assert (await learning())["examples"] == 3
        # Other tiers are another name: nobody is judged for what the former ones said.
        reload(tiers=("large", "small"), learn=Learn(share=1))
        assert (await learning())["examples"] == 0
        answer = await gw.http.post("/v1/feedback", json={"id": ids[2], "label": "bad"})
        assert answer.status_code == 404


async def test_a_running_answer_is_remembered_over_a_reload() -> None:
    async with routed({}) as gw:
        old = gw.worker.app.route
        assert old is not None
        gw.worker.reload(gw.worker.settings)
        served(old.book, "late")
        assert gw.worker.app.route is not None
        assert gw.worker.app.route.book.feedback("", "late", 1.0)["tier"] == "small"


# -- two workers


def settings(**route: Any) -> Any:
    engines = {f"e{i}": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"} for i in range(2)}
    return config.build({"engines": engines, "models": models(**route)}, environ={})


def served(book: Book, id: str, level: int = 0, tenant: str = "", score: float | None = 0.3) -> None:
    trace = Trace(id=id)
    trace.tenant = tenant
    book.begun(trace, "m", level, "act", score)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "forgotten at the end"])
def test_what_one_worker_learns_all_know(tmp_path: Path, kept: bool) -> None:
    learn = {"share": 1.0, **({"path": str(tmp_path / "learnt.json")} if kept else {})}
    folder = tmp_path / "fleet"
    folder.mkdir()
    made = settings(learn=learn)
    books = [Book(made, None, folder) for _ in range(2)]
    for i in range(20):
        served(books[0], f"{i}")
        assert books[i % 2].feedback("", f"{i}", 0.0)["counted"]
        assert books[0].corrected("m", 0.4) == books[1].corrected("m", 0.4) > 0.4
    assert not books[0].feedback("", "1", 0.0)["counted"]
    late = Book(made, None, folder)
    assert late.corrected("m", 0.4) == books[0].corrected("m", 0.4)
    late.learners["m"].reset()
    assert [book.corrected("m", 0.4) for book in books] == [0.4, 0.4]
    for book in (*books, late):
        book.close()
        book.close()


def test_workers_with_other_tiers_share_no_places(tmp_path: Path) -> None:
    other = settings()
    other.models["m"] = other.models["m"].__class__(tiers=("large", "small"))
    books = [Book(settings(), None, tmp_path), Book(other, None, tmp_path)]
    served(books[0], "1")
    with pytest.raises(UnknownRequest):
        books[1].feedback("", "1", 1.0)
    for book in books:
        book.close()


def test_a_request_teaches_once() -> None:
    book = Book(settings(learn={"share": 1.0}))
    learner = book.learners["m"].learner
    served(book, "1")
    assert book.verdict("1", 1.0)
    assert not book.verdict("1", 1.0)
    assert book.feedback("", "1", 0.0)["counted"]
    served(book, "2", score=None)  # it only said to go on
    assert book.feedback("", "2", 0.0)["counted"]
    served(book, "3", UNKNOWN)
    assert book.feedback("", "3", 0.0)["tier"] == "other"
    assert not book.verdict("4", 1.0)
    assert learner.learnt().examples == 1
    off = Book(settings())
    served(off, "1")
    assert not off.verdict("1", 1.0)


# -- the memory


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("shared", [True, False])
def test_the_last_ten_thousand_are_remembered(tmp_path: Path, shared: bool) -> None:
    clock = Clock()
    path = tmp_path / "recent" if shared else None
    recent = Recent(clock, path)
    for i in range(3 * SLOTS):
        clock.now += 0.001
        recent.put("acme", str(i), Served(0, 1, "holdback", 0.25))
    other = Recent(clock, path) if shared else recent
    newest = range(3 * SLOTS - 10_000, 3 * SLOTS)
    known = [other.get("acme", str(i)) for i in newest]
    assert known.count(None) < 20
    assert known[-1] == Served(0, 1, "holdback", 0.25)
    assert other.get("beta", str(newest[-1])) is None
    assert sum(other.get("acme", str(i)) is not None for i in range(3 * SLOTS)) <= SLOTS
