"""Paths: hot ones to a wire format and the stages, others to a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hasten.accept.auth import Caller
from hasten.accept.wire import Wire
from hasten.errors import HastenError, MethodNotAllowed, NotFound
from hasten.types import Reply


class Head:
    """A request's line and headers. ``headers``: lower-case names; ``t0``: when its first byte was read."""

    __slots__ = (
        "body",
        "body_size",
        "caller",
        "error",
        "headers",
        "http10",
        "keep_alive",
        "method",
        "path",
        "query",
        "route",
        "t0",
        "target",
    )

    def __init__(self, t0: float) -> None:
        self.t0 = t0
        self.method = b""
        self.target = b""
        self.path = b""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}
        self.http10 = False
        self.keep_alive = True
        self.body = b""  # of a request for a page, once it is complete
        self.body_size = 0
        self.caller = Caller("", False)
        self.error: HastenError | None = None
        self.route: Route | None = None

    def settle(self) -> None:
        """Split the target. Of the absolute form only the path counts: no client names a host here."""
        target = self.target
        if not target.startswith(b"/"):
            _, _, rest = target.partition(b"://")
            target = b"/" + rest.partition(b"/")[2]
        self.path, _, self.query = target.partition(b"?")


Page = Callable[[Head], Awaitable[Reply]]


class Route:
    """What a path leads to: a ``page``, or without one a call for an engine; ``wire``: the client's format.

    ``protected``: only with a key, where keys are configured; ``admin``: only with an admin's, where there are such.
    """

    __slots__ = ("admin", "name", "page", "protected", "wire")

    def __init__(
        self,
        name: str,
        wire: Wire | None = None,
        page: Page | None = None,
        protected: bool = True,
        admin: bool = False,
    ) -> None:
        self.admin = admin
        self.name = name
        self.wire = wire
        self.page = page
        self.protected = protected

    def __repr__(self) -> str:
        return f"<Route {self.name}>"


class Router:
    """Exact paths, and prefixes that end in ``/`` for those with a name behind them."""

    def __init__(self) -> None:
        self._exact: dict[bytes, dict[bytes, Route]] = {}
        self._prefixes: dict[bytes, dict[bytes, Route]] = {}

    def post(self, path: str, route: Route) -> None:
        """Lead ``POST path`` to ``route``."""
        self._exact.setdefault(path.encode(), {})[b"POST"] = route

    def get(self, path: str, route: Route) -> None:
        """Lead ``GET path`` (and ``HEAD``) to ``route``; a path ending in ``/`` also leads what is below it."""
        table = self._prefixes if path.endswith("/") and path != "/" else self._exact
        table.setdefault(path.encode(), {}).update({b"GET": route, b"HEAD": route})

    def find(self, method: bytes, path: bytes) -> Route:
        """Return the route; raise :class:`NotFound` or :class:`MethodNotAllowed`."""
        methods = self._exact.get(path)
        if methods is None:
            methods = next((m for prefix, m in self._prefixes.items() if path.startswith(prefix)), None)
        if methods is None:
            shown = path[:100].decode("latin-1")
            raise NotFound(
                f"there is no {shown!r} here; paths: " + ", ".join(p.decode() for p in self._exact)
            )
        route = methods.get(method)
        if route is None:
            allowed = ", ".join(m.decode() for m in methods)
            raise MethodNotAllowed(f"{method[:20].decode('latin-1')} is not allowed here; allowed: {allowed}")
        return route
