"""Other wordings: what is served, what is refused and why, and what is learnt of it. The models are fakes."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.cache.key import Fingerprint
from hasten.cache.semantic.belief import KEPT, MOST
from hasten.cache.semantic.policy import LOOKS
from hasten.errors import StoreError
from tests.cache.semantics import LIMIT, SCOPE, Rig

ASKED = "how can i get my old parcel back from the shop"
STORED = "how do i get my parcel back from your old shop"
HEADER = re.compile(r"[ -~]{1,200}")


async def test_an_equal_form_needs_no_model() -> None:
    async with Rig(load_error=OSError("no such file")) as rig:
        await rig.learn("What is the capital of France?")
        found = await rig.look("what is the capital of france")
        assert found.serve
        assert found.score is None
        assert found.why == "same canonical form"
        assert not (await rig.look(ASKED)).serve


async def test_a_verified_candidate_is_served_and_others_are_not() -> None:
    async with Rig() as rig:
        question = await rig.learn(STORED)
        refused = await rig.look(ASKED)
        assert (refused.serve, refused.score) == (False, -5.0)
        rig.pairs[STORED, ASKED] = LIMIT - 0.01
        assert not (await rig.look(ASKED)).serve
        rig.pairs[STORED, ASKED] = LIMIT
        served = await rig.look(ASKED)
        assert served.serve
        assert served.entry is not None
        assert served.entry.key == question.key
        assert served.why == "verifier 2.00 >= 2.00"
        assert [look["verdict"] for look in rig.report.view()["looks"]] == ["hit", "refused", "refused"]


async def test_the_best_of_several_candidates_is_taken() -> None:
    async with Rig() as rig:
        for i, text in enumerate((STORED, "my old parcel back from the shop please how", ASKED + " now")):
            await rig.learn(text)
            rig.pairs[text, ASKED] = LIMIT + i
        found = await rig.look(ASKED)
        assert found.entry is not None
        assert found.entry.text == ASKED + " now"


async def test_what_is_not_near_is_not_verified() -> None:
    async with Rig(otherwise=99.0) as rig:
        await rig.learn(STORED)
        found = await rig.look("an entirely different matter")
        assert (found.entry, found.why) == (None, "nothing like it is stored")


async def test_a_guard_refuses_without_saying_whose_words() -> None:
    async with Rig(otherwise=99.0) as rig:
        await rig.learn("how long does it take to ship 5 zebras to norway")
        found = await rig.look("how long does it take to ship 50 zebras to norway")
        assert not found.serve
        assert found.why == "refused: number"


async def test_the_holdback_is_never_served_and_compared() -> None:
    async with Rig(holdback=1.0) as rig:
        await rig.learn(STORED, "Bring the slip to the desk of the shop.")
        rig.pairs[STORED, ASKED] = 5.0
        found = await rig.ask(ASKED, "Bring the slip to the desk of the shop!")
        assert (found.serve, found.held) == (False, True)
        assert rig.counts.seen["hasten_cache_compared_total", "same"] == 1
        other = "how can i get my old parcel back from the shop then"
        rig.pairs[STORED, other] = 5.0
        rig.pairs[ASKED, other] = -9.0
        assert (await rig.ask(other, "It costs 5 dollars.")).held
        await rig.look(STORED.upper())
        assert rig.counts.seen["hasten_cache_semantic_verdicts_total", "hit"] == 0
        assert rig.cache.view()["compared"] == 2
        assert rig.cache.view()["different"] == 1


async def test_answers_that_only_their_meaning_tells_are_compared_by_it() -> None:
    async with Rig(holdback=1.0) as rig:
        await rig.learn("what is the capital of france", "The capital is Paris")
        await rig.ask("What is the capital of France?", "the Capital is Paris it is")
        await rig.ask("what is the capital of France", "go away and ask somebody else")
        seen = rig.counts.seen
        assert (
            seen["hasten_cache_compared_total", "same"] + seen["hasten_cache_compared_total", "different"]
            == 2
        )


async def test_a_share_of_nothing_looks_nothing_up() -> None:
    async with Rig(share=0.0, otherwise=99.0) as rig:
        await rig.learn(STORED)
        for text in (ASKED, STORED):
            found = await rig.look(text)
            assert (found.entry, found.why) == (None, "not in the share")
        assert rig.report.view()["looks"] == []


async def test_long_and_empty_texts_are_no_questions() -> None:
    async with Rig(max_chars=20) as rig:
        for text in ("x" * 21, "", "  \n "):
            assert rig.cache.question(Fingerprint(b"k", SCOPE, text)) is None
        assert rig.cache.question(Fingerprint(b"k", SCOPE, " " * 50 + "x" * 20)) is not None
        assert rig.cache.question(Fingerprint(b"k", None, None)) is None


# -- trouble


async def test_models_that_take_too_long_are_passed_by() -> None:
    async with Rig(timeout=0.02) as rig:
        await rig.learn(STORED)
        rig.go.clear()
        found = await rig.look(ASKED)
        assert (found.entry, found.why) == (None, "the look-up took too long")
        assert rig.bypassed("semantic_timeout") == 1


async def test_too_many_at_once_are_passed_by() -> None:
    async with Rig() as rig:
        await rig.learn(STORED)
        rig.go.clear()
        tasks = [asyncio.create_task(rig.look(f"{ASKED} {i}")) for i in range(LOOKS + 3)]
        await asyncio.sleep(0.01)
        assert rig.bypassed("semantic_busy") == 3
        rig.go.set()
        assert {f.why for f in await asyncio.gather(*tasks)} >= {"too many look-ups at once"}
        assert (await rig.look(ASKED)).score == -5.0


async def test_equal_forms_are_served_however_much_the_models_have_to_do() -> None:
    async with Rig() as rig:
        await rig.learn("What is the capital of France?")
        rig.go.clear()
        tasks = [asyncio.create_task(rig.look(f"{ASKED} {i}")) for i in range(LOOKS)]
        await asyncio.sleep(0.01)
        rig.overload()
        assert (await rig.look("what is the capital of france")).serve
        assert (await rig.look(ASKED)).why == "too many look-ups for what comes of them"
        assert rig.bypassed("semantic_budget") == 1
        rig.go.set()
        await asyncio.gather(*tasks)


async def test_what_was_over_the_budget_can_be_found_when_there_is_time() -> None:
    async with Rig() as rig:
        await rig.learn(STORED)
        await rig.look("an entirely different matter")  # embeds what is stored
        rig.overload()
        other = "where do i leave a parcel for the night shift"
        await rig.ask(other, "At the door.")
        assert await rig.bare() == [other]
        rig.ticks.advance(60)
        assert await rig.bare() == []
        rig.pairs[other, other + " then"] = LIMIT
        assert (await rig.look(other + " then")).serve


async def test_what_took_too_long_can_be_found_later() -> None:
    async with Rig(timeout=0.02) as rig:
        await rig.learn(STORED)
        rig.go.clear()
        assert (await rig.ask(ASKED, "At the desk.")).why == "the look-up took too long"
        rig.go.set()
        assert await rig.bare() == [STORED]


async def test_a_purge_forgets_what_waits_for_a_vector() -> None:
    async with Rig() as rig:
        await rig.learn(STORED)
        rig.overload()
        await rig.ask(ASKED, "At the desk.")
        rig.cache.forget()
        rig.ticks.advance(60)
        assert await rig.bare() == [ASKED, STORED]


class Odd(Exception):
    """What a model's runtime raises: of no known kind."""


@pytest.mark.parametrize(
    "error", [Odd("secret"), RuntimeError("secret"), ValueError("secret"), MemoryError()]
)
async def test_models_that_fail_are_passed_by(error: Exception) -> None:
    async with Rig() as rig:
        await rig.learn(STORED)
        rig.error = error
        found = await rig.ask(ASKED, "something else")
        assert (found.entry, found.why) == (None, f"the models failed ({type(error).__name__})")
        assert rig.bypassed("semantic_failed") == 1
        assert (await rig.stored(ASKED)).text == ASKED  # kept all the same
        rig.error = None
        assert (await rig.look(ASKED + " now")).score == -5.0


async def test_a_store_that_fails_is_passed_by() -> None:
    async with Rig() as rig:

        async def find(canonical: bytes) -> None:
            raise StoreError("down")

        rig.store.find = find  # type: ignore[method-assign]
        found = await rig.look(ASKED)
        assert (found.entry, found.why) == (None, "the store failed")
        assert rig.bypassed("store_error") == 1


async def test_models_that_cannot_be_loaded_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "hasten.cache"):
        async with Rig(load_error=OSError("no such file")) as rig:
            await rig.learn(STORED)
            found = await rig.look(ASKED)
            assert (found.entry, found.why) == (None, "models: failed")
            assert rig.cache.state == "failed: no such file"
            assert rig.cache.view()["state"] == "failed: no such file"


async def test_while_the_models_are_loading_equal_forms_are_served() -> None:
    rig = Rig()
    rig.go.clear()
    async with rig:
        assert rig.cache.state == "loading"
        await rig.learn("What is the capital of France?")
        assert (await rig.look("what is the capital of france")).serve
        assert (await rig.look(ASKED)).why == "models: loading"
    assert rig.cache.state == "closed"


async def test_a_bound_that_no_limit_keeps() -> None:
    async with Rig(false_hit_bound=0.001, otherwise=99.0) as rig:
        await rig.learn(STORED)
        assert (await rig.look(ASKED)).why == "no limit keeps this false_hit_bound"


async def test_closing_under_way_is_an_answer_to_all() -> None:
    async with Rig() as rig:
        await rig.learn(STORED)
        rig.go.clear()
        tasks = [asyncio.create_task(rig.look(f"{ASKED} {i}")) for i in range(3)]
        await asyncio.sleep(0.01)
        rig.cache.close()
        rig.go.set()
        for found in await asyncio.gather(*tasks):
            assert found.serve is False
        assert (await rig.look(ASKED)).serve is False


# -- learning


async def test_a_wrong_answer_makes_the_entry_stricter_and_right_ones_looser_up_to_a_point() -> None:
    async with Rig() as rig:
        question = await rig.learn(STORED)
        rig.pairs[STORED, ASKED] = LIMIT
        assert (await rig.look(ASKED)).serve
        assert await rig.cache.feedback(question.key, False)
        assert not (await rig.look(ASKED)).serve
        for _ in range(4 * KEPT):
            assert await rig.cache.feedback(question.key, True)
        assert (await rig.look(ASKED)).serve
        assert len((await rig.stored(STORED)).marks) == KEPT
        rig.pairs[STORED, ASKED] = LIMIT - MOST - 0.01  # b is 1: a logit is a score
        assert not (await rig.look(ASKED)).serve


async def test_fresh_answers_to_what_was_nearly_served_teach() -> None:
    async with Rig() as rig:
        await rig.learn(STORED, "Bring the slip to the desk.")
        for i in range(12):
            text = f"{ASKED} {'again ' * i}".strip()
            rig.pairs = {(STORED, text): LIMIT - 0.3}
            if (await rig.ask(text, "Bring the slip to the desk!")).serve:
                break
            await rig.store.delete(rig.question(text).key)
        else:
            pytest.fail("it never learnt")


async def test_an_answer_that_was_wrong_is_not_served_to_equal_forms() -> None:
    async with Rig() as rig:
        question = await rig.learn("What is the capital of France?")
        assert await rig.cache.feedback(question.key, False)
        found = await rig.look("what is the capital of france")
        assert not found.serve
        assert "was wrong before" in found.why
        assert await rig.cache.feedback(question.key, True)
        assert (await rig.look("what is the capital of france")).serve


FRANCE = ("What is the capital of France?", "what is the capital of france", "What's the capital of France")


@pytest.mark.parametrize("again", FRANCE[:2])
async def test_distrust_outlives_a_newer_answer_of_the_same_form(again: str) -> None:
    async with Rig() as rig:
        question = await rig.learn(FRANCE[0], "It is Lyon, as far as I know.")
        assert await rig.cache.feedback(question.key, False)
        rig.clock.now += 1
        await rig.learn(
            again, "It is Paris, as far as I know."
        )  # without a look-up, as a renewal or a refresh
        assert "was wrong before" in (await rig.look(FRANCE[2])).why
        await rig.ask(FRANCE[2], "It is Marseille, as far as I know.")
        assert "was wrong before" in (await rig.look(FRANCE[1])).why


async def test_distrust_outlives_a_look_up_that_was_passed_by() -> None:
    async with Rig() as rig:
        question = await rig.learn(FRANCE[0])
        assert await rig.cache.feedback(question.key, False)
        rig.clock.now += 1
        rig.cache.dial.level = 0.0
        assert (await rig.ask(FRANCE[1], "It is another city.")).why == "not in the share"
        rig.cache.dial.level = 1.0
        assert "was wrong before" in (await rig.look(FRANCE[2])).why


async def test_trust_comes_back_with_an_answer_that_is_the_same() -> None:
    async with Rig() as rig:
        question = await rig.learn(FRANCE[0], "It is Paris, as far as I know.")
        assert await rig.cache.feedback(question.key, False)
        assert not (await rig.ask(FRANCE[1], "It is 5 miles away.")).serve
        assert not (await rig.ask(FRANCE[2], "It is 5 miles away.")).serve
        assert (await rig.look(FRANCE[1])).serve


async def test_what_was_learnt_ends_with_an_invalidation() -> None:
    async with Rig() as rig:
        question = await rig.learn(FRANCE[0])
        assert await rig.cache.feedback(question.key, False)
        await rig.store.invalidate(["tenant:acme"])
        await rig.learn(FRANCE[1])
        assert (await rig.look(FRANCE[2])).serve


async def test_what_was_learnt_of_one_form_is_not_anothers() -> None:
    async with Rig() as rig:
        question = await rig.learn(STORED)
        rig.pairs[STORED, ASKED] = LIMIT - 1
        assert await rig.cache.feedback(question.key, False)
        assert not (await rig.ask(ASKED, "It is another matter altogether.")).serve
        assert (await rig.stored(ASKED)).marks == ()


async def test_a_refusal_that_was_right_is_no_reason_for_distrust() -> None:
    async with Rig() as rig:
        await rig.learn(STORED, "It takes 5 days.")
        assert not (await rig.ask(ASKED, "It takes 9 days.")).serve
        assert (await rig.stored(STORED)).marks == ((-5.0, False),)
        assert (await rig.look(STORED + "?")).serve


async def test_what_was_purged_or_renewed_meanwhile_does_not_come_back() -> None:
    async with Rig() as rig:
        await rig.learn(STORED, "It takes 5 days.")
        question = rig.question(ASKED)
        finding = await rig.cache.look(question, "acme")
        fresh = rig.fresh(question, "It takes 9 days.")
        rig.clock.now += 1
        await rig.learn(STORED, "It takes 7 days.")  # renewed
        await rig.keep(question, finding, fresh)
        assert b"7 days" in (await rig.stored(STORED)).body
        assert (await rig.stored(STORED)).marks == ()

        finding = await rig.cache.look(rig.question(ASKED + " now"), "acme")
        fresh = rig.fresh(rig.question(ASKED + " now"), "It takes 9 days.")
        await rig.store.invalidate(["tenant:acme"])
        await rig.store.purge("acme")
        await rig.cache.compare(finding, fresh)
        assert rig.store.stats().entries == 0


async def test_feedback_on_nothing() -> None:
    async with Rig() as rig:
        assert not await rig.cache.feedback(b"nothing", True)


async def test_too_many_different_answers_turn_the_dial_to_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with Rig(holdback=1.0, share=1.0) as rig:
        with caplog.at_level(logging.ERROR, "hasten.cache"):
            for i in range(26):
                assert rig.cache.dial.level == (1.0 if rig.cache._wrong < 5 else 0.0)
                place = chr(ord("a") + i) * 5  # of a form that was wrong once, no more is compared
                await rig.learn(f"What is the capital of {place}?", "It takes 5 days.")
                await rig.ask(f"what is the capital of {place}", "It takes 6 days.")
                if rig.cache.dial.level == 0.0:
                    break
        assert rig.cache.dial.level == 0.0
        assert len([r for r in caplog.records if "turned itself off" in r.getMessage()]) == 1


# -- what may be said of it


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from([99.0, -99.0]), st.booleans())
def test_no_reason_has_anybodys_text_and_all_fit_a_header(a: str, b: str, score: float, held: bool) -> None:
    async def look() -> None:
        async with Rig(otherwise=score, holdback=float(held)) as rig:
            await rig.learn(f"how do i sell 5 zqxwj {a}")
            for text in (f"how do i sell 5 zqxwj {b}", f"how do i not sell 7 zqxwj {b}", f"zqxwj {a}"):
                why = (await rig.look(text)).why
                assert HEADER.fullmatch(why)
                assert "zqxwj" not in why

    asyncio.run(look())
