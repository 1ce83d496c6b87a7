"""What every store can do. Keys, scopes and canonical keys are digests (bytes); vectors are float32 of unit length.

A store answers late, wrong or never only for itself: :class:`hasten.cache.store.guard.Guard` stands before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hasten.cache.entry import Entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


class Near(NamedTuple):
    """A stored entry and the cosine similarity of its text to the one asked about."""

    entry: Entry
    similarity: float


class Stats(NamedTuple):
    """What a store holds; ``bytes`` as it counts them against its limit. ``None``: not known."""

    entries: int | None
    bytes: int | None
    evictions: int = 0


class Store(Protocol):
    """Keeps entries. Every method may raise :class:`~hasten.errors.StoreError`; nothing else comes out."""

    name: str

    async def open(self) -> None:
        """Make ready; called once, in the worker's loop."""

    async def get(self, key: bytes) -> Entry | None:
        """Return the entry if it is there, not past ``stale_until`` and of the present epochs."""

    async def put(self, entry: Entry, vector: Vector | None = None) -> None:
        """Keep ``entry`` under its key, replacing what is there; where it has a scope, for the semantic cache too.

        Without a ``vector`` a key that has one keeps it: the key stands for the text.
        """

    async def delete(self, key: bytes) -> None:
        """Forget one entry."""

    # -- invalidation

    def epochs(self, tags: Sequence[str]) -> tuple[int, ...]:
        """Return what an entry with these tags is to carry whose request begins now."""

    def allows(self, entry: Entry) -> bool:
        """Whether none of the entry's tags was invalidated since its request began, as far as this process knows."""

    async def invalidate(self, tags: Sequence[str]) -> None:
        """Begin a new epoch of each tag: entries that carry it are gone, those still being computed too."""

    async def purge(self, tenant: str) -> int:
        """Delete all that is kept of ``tenant``, its texts and vectors too; return how many entries."""

    # -- the semantic cache

    async def find(self, canonical: bytes) -> Entry | None:
        """Return the newest entry with this canonical key, by the rules of :meth:`get`."""

    async def known(self, scope: bytes) -> bool:
        """Whether any entry of ``scope`` is kept."""

    async def near(self, scope: bytes, vector: Vector, limit: int) -> list[Near]:
        """Return up to ``limit`` entries of ``scope``, the most similar first, by the rules of :meth:`get`."""

    async def bare(self, scope: bytes, limit: int) -> list[tuple[bytes, str]]:
        """Return (key, text) of up to ``limit`` entries of ``scope`` that have no vector yet."""

    async def embed(self, scope: bytes, key: bytes, vector: Vector) -> None:
        """Give an entry its vector; nothing happens if the entry is gone."""

    # -- life

    def stats(self) -> Stats:
        """Return what is held, without I/O."""

    async def close(self) -> None:
        """Write what waits, release everything."""


class Ready(Store, Protocol):
    """A store fit for a request's way: memory, or one behind a guard. Its ``keep`` is ``put`` without waiting."""

    def keep(self, entry: Entry, vector: Vector | None = None) -> None:
        """Keep ``entry`` now or soon; never raises."""
