"""Functions of the user's that settings name: ``package.module:function``."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any


def hook(path: str) -> Callable[..., Any]:
    """Return the function at ``path``; raise :class:`ValueError` that says why there is none."""
    try:
        found = resolve_name(path)
    except (ImportError, SyntaxError) as exc:
        raise ValueError(f"{path.partition(':')[0]} cannot be imported: {exc}") from None
    except AttributeError:
        module, _, name = path.partition(":")
        raise ValueError(f"{module} has no {name}") from None
    if not callable(found):
        raise ValueError(f"{path} is no function")
    return found  # type: ignore[no-any-return]
