"""Every error that Hasten raises on purpose.

::

    HastenError                     500  internal_error
    ├── RequestError                400  invalid_request_error     the client can mend it
    │   ├── InvalidField            400    a field is missing, of the wrong type, or too deep
    │   ├── Unauthorized            401    no key, or a wrong one
    │   ├── Forbidden               403    a key that may not do this
    │   ├── NotFound                404    no such path
    │   ├── UnknownModel            404    no such model; the message lists those there are
    │   ├── UnknownRequest          404    no such request is remembered, or it is another tenant's
    │   ├── NoTier                  400    none of a routed name's models has what the request needs
    │   ├── MethodNotAllowed        405
    │   ├── RequestTimeout          408    the client did not finish its request in time
    │   ├── BodyTooLarge            413
    │   ├── Unsupported             4xx    a feature that this wire format or engine lacks
    │   ├── HeadersTooLarge         431
    │   └── ClientGone              499    the client left before its reply was complete (never sent, only recorded)
    ├── EngineError                 502  engine_error              the engine's fault
    │   ├── EngineRefused           502    no connection: refused, unreachable, DNS, TLS   (retryable)
    │   ├── EngineReset             502    the connection died                             (retryable)
    │   ├── EngineTimeout           504    connect, first byte or idle limit passed        (retryable)
    │   ├── EngineStatus            its    it answered with an error status     (5xx and 429 retryable)
    │   └── EngineProtocol          502    it answered something that is not HTTP, JSON or SSE (retryable)
    ├── Unavailable                 503  unavailable               nobody can take the request now
    │   └── ShuttingDown            503    the gateway is draining
    ├── StoreError                  500  a cache's store failed: requests pass it by, an admin is told
    └── SettingsError               -    a configuration that cannot be used

``retryable`` says that another engine may be tried, as long as no byte of the reply has reached the client.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl

import msgspec

#: What code raises where nobody foresaw it: for work in the background that has to go on.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    msgspec.MsgspecError,
)


class HastenError(Exception):
    """Base of all errors; knows how it looks to a client.

    Attributes: ``status`` (HTTP), ``type`` and ``code`` and ``param`` (OpenAI's error envelope),
    ``retryable`` (see the module), ``retry_after`` (seconds, sent as a header when set).
    """

    status = 500
    type = "internal_error"
    code: str | None = None
    param: str | None = None
    retryable = False
    retry_after: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestError(HastenError):
    """The request cannot be served as it is; the client can mend it."""

    status = 400
    type = "invalid_request_error"


class InvalidField(RequestError):
    """A field of the body is missing, of the wrong type, or nested too deeply; ``param`` is its path."""

    code = "invalid_field"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Unauthorized(RequestError):
    """No API key was sent, or it is not one of the configured ones."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(RequestError):
    """The key is known, but may not do this."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(RequestError):
    """No route has this path."""

    status = 404
    type = "not_found_error"
    code = "unknown_path"


class UnknownModel(RequestError):
    """The model asked for is not in the configuration."""

    status = 404
    type = "not_found_error"
    code = "model_not_found"
    param = "model"


class UnknownRequest(RequestError):
    """A judgement of a request that is not remembered, or that is another tenant's."""

    status = 404
    type = "not_found_error"
    code = "unknown_request"
    param = "id"


class NoTier(RequestError):
    """None of the models that a routed name may choose from can serve the request; the message says what they lack."""

    code = "no_tier"
    param = "model"


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(RequestError):
    """The client began a request and did not finish it in time."""

    status = 408
    code = "request_timeout"


class BodyTooLarge(RequestError):
    """The body is larger than ``server.max_body_bytes``."""

    status = 413
    code = "body_too_large"


class HeadersTooLarge(RequestError):
    """The request line and headers are larger than ``server.max_header_bytes``."""

    status = 431
    code = "headers_too_large"


class ClientGone(RequestError):
    """The client closed the connection before its reply was complete."""

    status = 499
    code = "client_gone"


class Unsupported(RequestError):
    """Understood, but not offered: an upgrade, a content coding, an Anthropic-only feature."""

    code = "unsupported"

    def __init__(self, message: str, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


class EngineError(HastenError):
    """An engine failed."""

    status = 502
    type = "engine_error"
    code = "engine_error"
    retryable = True


class EngineRefused(EngineError):
    """No connection could be made: refused, unreachable, unknown host, TLS failure."""

    code = "engine_refused"


class EngineReset(EngineError):
    """The connection ended before the reply did."""

    code = "engine_reset"


class EngineTimeout(EngineError):
    """The engine was silent for longer than the connect, first-byte or idle limit."""

    status = 504
    code = "engine_timeout"


class EngineStatus(EngineError):
    """The engine answered with an error status; ``body`` is what it said.

    ``healthy``: the engine is well, it only cannot serve this request (501, or said in the body).
    """

    code = "engine_status"

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"the engine answered with status {status}")
        self.status = status
        self.body = body
        self.retry_after = retry_after
        self.healthy = status < 500 or status == 501 or b"not supported" in body or b"not_supported" in body
        self.retryable = status == 429 or not self.healthy


class EngineProtocol(EngineError):
    """The engine's answer is not valid HTTP, JSON or server-sent events."""

    code = "engine_protocol"


class Unavailable(HastenError):
    """Nobody can take the request now: circuits open, engine starting, shutting down."""

    status = 503
    type = "unavailable"
    code = "no_engine_available"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ShuttingDown(Unavailable):
    """The gateway is draining or was told to end."""

    code = "shutting_down"


class StoreError(HastenError):
    """A store of the cache is down, too slow or broken. ``code`` says which, for the count of bypasses."""

    code = "store_error"


class SettingsError(HastenError):
    """A configuration that cannot be used. ``problems``: one line each, beginning with the key's path."""

    type = "settings_error"

    def __init__(self, problems: list[str], source: str = "settings") -> None:
        super().__init__(f"{source}: " + "; ".join(problems))
        self.problems = problems
        self.source = source


#: Errors of libraries and of the system while talking to an engine, most special first.
FOREIGN: tuple[tuple[type[BaseException], type[EngineError], str], ...] = (
    (ssl.SSLCertVerificationError, EngineRefused, "the engine's TLS certificate was not accepted"),
    (ssl.SSLError, EngineRefused, "TLS failed"),
    (socket.gaierror, EngineRefused, "the engine's host name could not be resolved"),
    (ConnectionRefusedError, EngineRefused, "the engine refused the connection"),
    (ConnectionResetError, EngineReset, "the engine reset the connection"),
    (BrokenPipeError, EngineReset, "the engine closed the connection"),
    (ConnectionAbortedError, EngineReset, "the connection to the engine was aborted"),
    (asyncio.TimeoutError, EngineTimeout, "the engine took too long"),
    (TimeoutError, EngineTimeout, "the engine took too long"),
    (msgspec.DecodeError, EngineProtocol, "the engine sent malformed JSON"),
    (asyncio.IncompleteReadError, EngineReset, "the engine's answer ended early"),
    (ValueError, EngineRefused, "the engine's host name is not a valid one"),
    (OSError, EngineRefused, "the engine could not be reached"),
)


def translate(exc: BaseException) -> EngineError:
    """Return the :class:`EngineError` for a foreign error (itself, if it is one already).

    The texts are ours: a foreign message may carry addresses or keys.
    """
    if isinstance(exc, EngineError):
        return exc
    for foreign, ours, text in FOREIGN:
        if isinstance(exc, foreign):
            return ours(text)
    return EngineError("the engine failed")


def tell_end(task: asyncio.Task[None]) -> None:
    """Log what ended a task that is to run until it is cancelled: as its callback, since nobody waits for it."""
    if not task.cancelled() and (exc := task.exception()) is not None:
        logging.getLogger("hasten").error("%s ended: %r", task.get_name(), exc, exc_info=exc)
