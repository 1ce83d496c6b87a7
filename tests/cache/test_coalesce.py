"""Calls in flight without sockets: who joins when, who leaves when, and that nobody is harmed by it."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest
import uvloop
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hasten.cache.coalesce import Flight, Joiner
from hasten.errors import EngineReset
from hasten.testing import fake_stream
from hasten.trace import Trace
from hasten.types import Reply
from tests.cache.flights import Client, Upstream, chunk, flights, make_stage, numbers, settle
from tests.cache.parts import request

# -- one at a time


@pytest.mark.parametrize("at", range(7))
async def test_a_late_joiner_gets_all_chunks_in_order_once(at: int) -> None:
    stage, upstream = make_stage(), Upstream()
    clients = [Client(stage, upstream)]
    await settle()
    steps = [upstream.calls[0].answer, *[upstream.calls[0].feed] * 5]
    for i, step in enumerate(steps):
        if i == at:
            clients.append(Client(stage, upstream))
            await settle()
        step()
        await settle()
    if at == len(steps):
        clients.append(Client(stage, upstream))
        await settle()
    upstream.calls[0].end()
    await settle()
    assert len(upstream.calls) == 1
    assert [c.raw for c in clients] == [numbers(5)] * 2
    assert all(c.ended and c.error is None for c in clients)
    assert flights(stage) == 0


async def test_joiners_of_a_stream_that_came_at_once() -> None:
    stage, upstream = make_stage(), Upstream()
    clients = [Client(stage, upstream) for _ in range(3)]
    await settle()
    reply = Reply(content_type=b"text/event-stream", stream=fake_stream("a", "b", "c"))
    upstream.calls[0].head.set_result(reply)
    await settle()
    assert len({c.raw for c in clients}) == 1
    assert all(c.ended and c.error is None for c in clients)
    assert clients[1].raw.endswith(b"data: [DONE]\n\n")
    assert flights(stage) == 0


async def test_a_slow_joiner_holds_nobody_up_and_catches_up() -> None:
    stage, upstream = make_stage(), Upstream()
    leader, slow, quick = (Client(stage, upstream) for _ in range(3))
    await settle()
    call = upstream.calls[0]
    call.answer()
    await settle()
    call.feed()
    assert slow.stream is not None
    slow.stream.pause()
    for _ in range(4):
        call.feed()
    assert (leader.raw, quick.raw, slow.raw) == (numbers(5), numbers(5), numbers(1))
    slow.stream.resume()
    assert slow.raw == numbers(5)
    slow.stream.pause()
    call.feed()
    call.end()
    assert leader.ended
    assert not slow.ended
    slow.stream.resume()
    assert slow.raw == numbers(6)
    assert slow.ended
    assert "pause" not in call.source.calls


async def test_a_slow_leader_does_not_hold_a_joiner_up() -> None:
    stage, upstream = make_stage(), Upstream()
    leader = Client(stage, upstream)
    await settle()
    call = upstream.calls[0]
    call.answer()
    await settle()
    assert leader.stream is not None
    leader.stream.pause()
    assert call.source.calls == ["pause"]  # it is alone
    Client(stage, upstream)
    await settle()
    assert call.source.calls == ["pause", "resume"]
    leader.stream.pause()
    assert call.source.calls == ["pause", "resume"]  # another one reads


async def test_what_a_slow_leader_has_not_taken_is_not_written_to_its_socket() -> None:
    stage, upstream = make_stage(), Upstream()
    leader, joiner = Client(stage, upstream), Client(stage, upstream)
    await settle()
    call = upstream.calls[0]
    call.answer()
    await settle()
    call.feed()
    assert leader.stream is not None
    leader.stream.pause()
    for _ in range(4):
        call.feed()
    assert (leader.raw, joiner.raw) == (numbers(1), numbers(5))
    leader.full_at = 3  # its socket takes so many, and no more
    leader.stream.resume()
    call.feed()
    assert (leader.raw, joiner.raw) == (numbers(3), numbers(6))
    call.end()
    assert joiner.ended
    assert not leader.ended
    leader.stream.resume()
    assert leader.raw == numbers(6)
    assert leader.ended


async def test_the_engine_waits_for_a_slow_leader_that_is_left_alone() -> None:
    stage, upstream = make_stage(), Upstream()
    leader, joiner = Client(stage, upstream), Client(stage, upstream)
    await settle()
    call = upstream.calls[0]
    call.answer()
    await settle()
    assert leader.stream is not None
    leader.stream.pause()
    call.feed()
    joiner.leave()
    call.feed()
    assert call.source.calls[-1] == "pause"
    assert leader.raw == b""
    leader.stream.resume()
    assert call.source.calls[-1] == "resume"
    assert leader.raw == numbers(2)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_failure_reaches_all(streamed: bool) -> None:
    stage, upstream = make_stage(), Upstream()
    clients = [Client(stage, upstream) for _ in range(4)]
    await settle()
    call = upstream.calls[0]
    error = EngineReset("gone")
    if streamed:
        call.answer()
        await settle()
        call.feed()
    call.end(error)
    await settle()
    told = [c.error if streamed else c.failed for c in clients]
    assert told == [error] * 4
    assert flights(stage) == 0


async def test_a_whole_answer_is_handed_out_without_the_leaders_rate_limits() -> None:
    stage, upstream = make_stage(), Upstream()
    clients = [Client(stage, upstream, request()) for _ in range(3)]
    await settle()
    reply = Reply(body=b"{}")
    reply.headers = [(b"x-ratelimit-remaining", b"3"), (b"openai-version", b"1")]
    upstream.calls[0].head.set_result(reply)
    await settle()
    got = [c.reply for c in clients]
    assert [r.body for r in got if r is not None] == [b"{}"] * 3
    assert got[1] is not None
    assert got[1].headers == [(b"openai-version", b"1")]
    assert flights(stage) == 0


# -- leaving


async def test_a_leader_that_left_before_the_answers_head_leaves_the_others_theirs() -> None:
    stage, upstream = make_stage(), Upstream()
    leader, follower = Client(stage, upstream), Client(stage, upstream)
    await settle()
    leader.leave()
    call = upstream.calls[0]
    call.answer()
    await settle()
    for _ in range(3):
        call.feed()
    call.end()
    await settle()
    assert follower.raw == numbers(3)
    assert follower.ended
    assert follower.error is None
    assert not call.source.cancelled


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_comes_as_the_last_one_leaves_is_not_called_off_with_it(streamed: bool) -> None:
    stage, upstream = make_stage(), Upstream()
    first = Client(stage, upstream, request(stream=streamed))
    await settle()
    first.leave()
    second = Client(stage, upstream, request(stream=streamed))  # before the first one's task has ended
    await settle()
    assert second.failed is None
    assert upstream.calls[0].given_up
    assert len(upstream.calls) == 2
    upstream.calls[1].end(EngineReset("x"))
    await settle()
    assert flights(stage) == 0


async def test_the_last_waiter_ends_the_call_of_a_leader_that_left() -> None:
    stage, upstream = make_stage(), Upstream()
    leader, one, two = (Client(stage, upstream, request()) for _ in range(3))
    await settle()
    leader.leave()
    one.leave()
    await settle()
    assert upstream.calls[0].running
    two.leave()
    await settle()
    assert upstream.calls[0].given_up
    assert flights(stage) == 0


# -- the limit


@pytest.mark.parametrize("early", [False, True])
async def test_over_the_size_limit_nobody_joins_and_who_has_joined_gets_all(early: bool) -> None:
    stage, upstream = make_stage(max_entry_bytes=len(numbers(2))), Upstream()
    leader, joiner = Client(stage, upstream), Client(stage, upstream)
    await settle()
    call = upstream.calls[0]
    if early:  # what comes with the head, before the joiner has woken up
        for i in range(4):
            call.source.stream.feed(chunk(i))
        call.fed = 4
    call.answer()
    await settle()
    while call.fed < 4:
        call.feed()
    assert flights(stage) == 0
    late = Client(stage, upstream)
    await settle()
    assert len(upstream.calls) == 2
    call.feed()
    call.end()
    assert leader.raw == joiner.raw == numbers(5)
    assert joiner.ended
    assert joiner.error is None
    late.leave()
    await settle()
    assert flights(stage) == 0


async def test_what_nobody_joined_is_not_kept_over_the_limit() -> None:
    stage, upstream = make_stage(max_entry_bytes=len(numbers(2))), Upstream()
    leader = Client(stage, upstream)
    await settle()
    flight: Flight = next(iter(stage._flights.values()))
    call = upstream.calls[0]
    call.answer()
    await settle()
    for _ in range(10):
        call.feed()
    assert flight.chunks == []
    call.end()
    assert leader.raw == numbers(10)


# -- any order

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["join", "leave", "head", "feed", "end", "fail", "pause", "resume", "full", "settle"]
        ),
        st.integers(0, 4),
    ),
    max_size=24,
)


async def play(steps: list[Step], limit: int) -> None:
    """Do ``steps``; whoever stays must get the whole of one call or its failure, and no call runs for nobody."""
    stage, upstream = make_stage(max_entry_bytes=limit), Upstream()
    clients: list[Client] = [Client(stage, upstream)]
    for step, i in steps:
        client = clients[i % len(clients)]
        call = upstream.calls[i % len(upstream.calls)] if upstream.calls else None
        match step:
            case "join":
                clients.append(Client(stage, upstream))
            case "leave":
                client.leave()
            case "pause" | "resume" if client.stream is not None:
                getattr(client.stream, step)()
            case "full":
                client.full_at = len(client.chunks) + 1 + i
            case "head" if call is not None and call.running:
                call.answer()
            case "feed" if call is not None:
                call.feed()
            case "end" | "fail" if call is not None and call.running:
                error = EngineReset("gone") if step == "fail" else None
                if call.head.done() or error is not None:
                    call.end(error)
            case "settle":
                await settle()
                if all(c.gone or c.ended or c.failed for c in clients):
                    assert not [c for c in upstream.calls if c.running]
    await settle()
    for call in upstream.calls:
        if call.running:
            call.answer()
            await settle()
            call.feed()
            call.end()
    await settle()
    for client in clients:
        for _ in range(2):  # the first time it may be full again
            if client.stream is not None:
                client.stream.resume()
    whole = {numbers(c.fed) for c in upstream.calls if c.over}
    for client in clients:
        assert client.running.done(), "somebody was left waiting"
        with contextlib.suppress(asyncio.CancelledError):
            client.running.result()
        if not client.gone:
            told = client.error or client.failed
            assert told is None or isinstance(told, EngineReset)
            assert client.ended or client.failed
            if told is None:
                assert client.raw in whole
    assert flights(stage) == 0


@hypothesis_settings(max_examples=300, deadline=None)
@given(STEPS, st.sampled_from([150, 600, 2**20]))
def test_whatever_the_order_nobody_is_harmed(steps: list[Step], limit: int) -> None:
    uvloop.run(play(steps, limit))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_flight_that_is_over_leaves_nothing_for_the_collector(stream: bool) -> None:
    stage, upstream = make_stage(), Upstream()
    gc.collect()
    gc.disable()
    before = {id(x) for x in gc.get_objects()}  # of other tests
    try:
        clients = [Client(stage, upstream, request(stream=stream)) for _ in range(3)]
        await settle()
        if stream:
            upstream.calls[0].answer()
            await settle()
            upstream.calls[0].feed()
            upstream.calls[0].end()
        else:
            upstream.calls[0].head.set_result(Reply(body=b"{}"))
        await settle()
        assert all(client.failed is None and client.running.done() for client in clients)
        del clients, upstream
        assert not [
            x for x in gc.get_objects() if isinstance(x, Flight | Joiner | Trace) and id(x) not in before
        ]
    finally:
        gc.enable()
