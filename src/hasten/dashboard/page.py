"""A page of the dashboard, as the answer that brings it."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from importlib.resources import files

from hasten.types import Reply


def page(name: str) -> Reply:
    """Return the page; it may run its own script only, load nothing, and ask nobody but this gateway."""
    body = files(__package__).joinpath(f"{name}.html").read_bytes()
    policy = (
        f"default-src 'none'; script-src {_hash(body, 'script')}; style-src {_hash(body, 'style')}; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    reply = Reply(body=body, content_type=b"text/html; charset=utf-8")
    reply.headers += [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    ]
    return reply


def _hash(body: bytes, tag: str) -> str:
    """Return the source expression of the page's only ``<tag>`` element."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), body, re.DOTALL)
    return f"'sha256-{b64encode(hashlib.sha256(content).digest()).decode()}'"
