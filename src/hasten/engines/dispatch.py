"""The last stage: a model's name to an engine, and to another one when the first fails.

Policy (who is next) is in :class:`ModelPool`, without I/O; :class:`Dispatch` does the awaiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic

from hasten.engines.base import Engine
from hasten.engines.circuit import Circuit
from hasten.errors import EngineError, EngineStatus, HastenError, Unavailable, UnknownModel
from hasten.settings import Circuit as CircuitSettings
from hasten.settings import Model
from hasten.trace import EngineCall
from hasten.types import Reply, Request

ATTEMPTS = 2  # the first engine, and one other before the first byte


class Member:
    """An engine with its circuit; one object however many models use the engine."""

    __slots__ = ("circuit", "engine")

    def __init__(self, engine: Engine, circuit: Circuit) -> None:
        self.engine = engine
        self.circuit = circuit

    @property
    def state(self) -> str:
        """``not_ready``, or the circuit's: ``circuit_open``, ``circuit_half_open``, ``resting``, ``ok``."""
        if not self.engine.ready:
            return "not_ready"
        state = self.circuit.state
        return {"closed": "ok", "resting": state}.get(state, f"circuit_{state}")

    def available(self) -> bool:
        """Whether a request may go there now."""
        return self.engine.ready and self.circuit.allows()

    def __repr__(self) -> str:
        return f"<Member {self.engine!r} {self.circuit!r}>"


class ModelPool:
    """The engines of one model, and which of them is next."""

    def __init__(self, name: str, members: list[Member], balance: str = "least_loaded") -> None:
        self.name = name
        self.members = members
        self.balance = balance
        self._turn = 0

    def pick(self, tried: list[Member]) -> Member | None:
        """Return the next engine that may be tried and was not; ``None`` if there is none.

        ``round_robin`` takes them in turn. ``least_loaded`` takes the one with the fewest requests in flight,
        in turn among equals.
        """
        members = self.members
        if len(members) == 1:
            only = members[0]
            return only if only not in tried and only.available() else None
        start = self._turn
        self._turn = (start + 1) % len(members)
        in_turn = members[start:] + members[:start]
        usable = [m for m in in_turn if m not in tried and m.available()]
        if not usable:
            return None
        if self.balance == "round_robin":
            return usable[0]
        return min(usable, key=lambda m: m.engine.inflight)

    @property
    def wait(self) -> float:
        """Seconds until the first of the circuits lets a request through."""
        return min(m.circuit.wait for m in self.members)

    def __repr__(self) -> str:
        return f"<ModelPool {self.name!r} {self.balance} {self.members!r}>"


def _judge(circuit: Circuit, error: HastenError | None) -> None:
    """Tell the circuit how a stream ended; a client that left says nothing of the engine."""
    if error is None:
        circuit.success()
    elif isinstance(error, EngineError):
        circuit.failure()


def _note_end(call: EngineCall, reply: Reply) -> None:
    """Note when a call is over: now, or with its stream."""
    if reply.stream is None:
        call.ended()
    else:
        reply.stream.on_end.append(lambda error: call.ended(None if error is None else error.code or "error"))


class Dispatch:
    """Sends a request to an engine of its model; after a retryable failure once more, to another one."""

    def __init__(
        self,
        models: Mapping[str, Model],
        engines: Mapping[str, Engine],
        circuit: CircuitSettings | None = None,
        clock: Callable[[], float] = monotonic,
        on_fallback: Callable[[str, str], None] = lambda engine, reason: None,
    ) -> None:
        self.members = {name: Member(engine, Circuit(circuit, clock)) for name, engine in engines.items()}
        self.pools = {
            name: ModelPool(name, [self.members[e] for e in model.engines], model.balance)
            for name, model in models.items()
            if model.engines
        }
        self._chains = {
            name: [self.pools[name], *(self.pools[other] for other in model.fallback)]
            for name, model in models.items()
            if model.engines
        }
        self._on_fallback = on_fallback

    async def __call__(self, request: Request) -> Reply:
        """Return the first answer. Raises what the last tried engine raised, or :class:`Unavailable`."""
        chain: list[ModelPool] | None
        if request.models is not None:
            chain = [self.pools[name] for name in request.models]
        else:
            chain = self._chains.get(request.model)
        if chain is None:
            names = ", ".join(self._chains)
            raise UnknownModel(f"there is no model {request.model[:100]!r}; there are: {names}")
        trace = request.trace
        tried: list[Member] = []
        last: HastenError | None = None
        for pool in chain:
            while len(tried) < ATTEMPTS and (member := pool.pick(tried)) is not None:
                if last is not None:
                    self._note_fallback(request, tried[-1].engine.name, last.code or "error")
                elif pool is not chain[0]:
                    for skipped in chain[0].members:
                        self._note_fallback(request, skipped.engine.name, skipped.state)
                tried.append(member)
                trace.attempts += 1
                trace.engine = member.engine.name
                trace.provider = member.engine.provider
                trace.served_model = pool.name
                context = trace.context
                call = None if context is None else context.call(trace.engine, trace.provider, pool.name)
                try:
                    reply = await self._try(member, request)
                    if call is not None:
                        _note_end(call, reply)
                    return reply
                except HastenError as exc:
                    if call is not None:
                        call.ended(exc.code or "error")
                    if not exc.retryable and not isinstance(exc, Unavailable):
                        raise
                    last = exc
        if last is None:
            raise self._unavailable(chain)
        wait = min(pool.wait for pool in chain)
        if wait and last.retry_after is None:  # this failure was the last one that the circuits put up with
            last.retry_after = wait
        raise last

    def _note_fallback(self, request: Request, engine: str, reason: str) -> None:
        """Another engine is tried because ``engine`` failed or could not be asked."""
        request.trace.reasons.append(f"{engine}: {reason}")
        request.trace.route = "fallback"
        self._on_fallback(engine, reason)

    async def _try(self, member: Member, request: Request) -> Reply:
        circuit = member.circuit
        circuit.begin()
        try:
            reply = await member.engine.send(request)
        except EngineStatus as exc:
            if exc.status == 429:
                circuit.rest(exc.retry_after) if exc.retry_after else circuit.ignore()
            elif exc.healthy:
                circuit.success()
            else:
                circuit.failure()
            raise
        except EngineError:
            circuit.failure()
            raise
        except BaseException:  # cancelled: the client left
            circuit.ignore()
            raise
        if reply.stream is None:
            circuit.success()
        else:
            circuit.alive()
            reply.stream.on_end.append(lambda error: _judge(circuit, error))
        return reply

    def available(self, model: str) -> bool:
        """Whether an engine of ``model`` may be asked now."""
        return any(member.available() for member in self.pools[model].members)

    def _unavailable(self, chain: list[ModelPool]) -> HastenError:
        wait = min(pool.wait for pool in chain)
        members = [m for pool in chain for m in pool.members]
        if all(m.circuit.state == "resting" for m in members):
            error = EngineStatus(429, retry_after=wait)
            error.message = "the engine asked to be left alone for a while"
            return error
        return Unavailable(
            f"no engine of {chain[0].name!r} can take requests now: "
            + ", ".join(f"{m.engine.name} ({m.state.replace('_', ' ')})" for m in members),
            retry_after=max(wait, 1.0),
        )
