"""The pages of the dashboard and what they load, as the answers that bring them.

A page is made of ``frame.html``, its own ``NAME.html`` (what is in ``<main>``) and, where they are there,
``assets/NAME.css`` and ``assets/NAME.js``, a module. All of it comes from this gateway, without a build step, and a
page may load nothing from anywhere else. A page without a ``NAME.html`` is not there, nor are links to it.
"""

from __future__ import annotations

import hashlib
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable

from hasten.types import Reply

#: The pages by name, in the order of the links: the path, and what the link says.
PAGES = {
    "overview": ("/dashboard", "Overview"),
    "cache": ("/dashboard/cache", "Cache"),
    "route": ("/dashboard/route", "Routing"),
    "play": ("/play", "Playground"),
}
ASSETS = "/dashboard/assets/"
_HERE = files(__package__)
_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def all_pages() -> dict[str, Reply]:
    """Return the pages and what they load, by path."""
    found = {path: page(name) for name, (path, _) in _there().items()}
    for folder in ("assets", "vendor"):
        for file in _HERE.joinpath(folder).iterdir():
            if _kind(file) in _TYPES:
                found[ASSETS + file.name] = _reply(file.read_bytes(), _TYPES[_kind(file)])
    return found


def page(name: str) -> Reply:
    """Return a page of :data:`PAGES`; it may run this gateway's scripts only, and ask nobody else."""
    here = ' aria-current="page"'
    links = "".join(
        f'<a href="{path}"{here * (own == name)}>{escape(title)}</a>'
        for own, (path, title) in _there().items()
    )
    assets = {file.name for file in _HERE.joinpath("assets").iterdir()}
    loads = [
        f'<link rel="stylesheet" href="{ASSETS}{css}">'
        for css in ("hasten.css", f"{name}.css")
        if css in assets
    ]
    if f"{name}.js" in assets:
        loads.append(f'<script type="module" src="{ASSETS}{name}.js"></script>')
    text = _HERE.joinpath("frame.html").read_text()
    for field, value in (
        ("title", escape(PAGES[name][1])),
        ("links", links),
        ("loads", "\n".join(loads)),
        ("main", _HERE.joinpath(f"{name}.html").read_text().rstrip("\n")),
    ):
        text = text.replace(f"{{{field}}}", value)
    reply = _reply(text.encode(), b"text/html; charset=utf-8")
    reply.headers.append((b"content-security-policy", _POLICY))
    return reply


def _there() -> dict[str, tuple[str, str]]:
    return {name: shown for name, shown in PAGES.items() if _HERE.joinpath(f"{name}.html").is_file()}


def _kind(file: Traversable) -> str:
    return file.name[file.name.rfind(".") :]


def _reply(body: bytes, content_type: bytes) -> Reply:
    """Return an answer that browsers keep, and ask whether it is still the one: an update shows at once."""
    tag = hashlib.sha256(body).hexdigest()[:20].encode()
    reply = Reply(body=body, content_type=content_type)
    reply.headers += [
        (b"etag", b'"' + tag + b'"'),
        (b"cache-control", b"no-cache"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]
    return reply
