"""Whether a request's head may be taken: what two HTTP parsers could read in two ways may not."""

from __future__ import annotations

from hasten.accept.auth import Keys
from hasten.accept.routes import Head, Router
from hasten.errors import BodyTooLarge, HastenError, HeadersTooLarge, RequestError, Unsupported
from hasten.settings import Server as ServerSettings

MAX_HEADERS = 128


def check_head(head: Head, settings: ServerSettings, router: Router, keys: Keys) -> HastenError | None:
    """Return why the request cannot be taken, framing first, or ``None``; sets :attr:`Head.route`.

    RFC 9112, sections 6.3 (message body length) and 11.2 (request smuggling).
    """
    headers = head.headers
    if head.error is not None:
        return head.error
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is not None and (coding.lower() != b"chunked" or length is not None or head.http10):
        return RequestError("transfer-encoding must be 'chunked', alone, without content-length")
    if length is not None and not length.isdigit():
        return RequestError("content-length must be a number")
    if b"host" not in headers and not head.http10:
        return RequestError("the header host is missing")
    values = b"".join(headers.values())
    size = len(head.target) + len(b"".join(headers)) + len(values) + 4 * len(headers)
    if size > settings.max_header_bytes or len(headers) > MAX_HEADERS:
        return too_large(settings)
    if b"\r" in values or b"\n" in values or b"\0" in values:
        return RequestError("a header has a forbidden character")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        return Unsupported("content-encoding is not supported: send the body as it is", 415)
    try:
        head.route = router.find(head.method, head.path)
        if head.route.protected:
            head.caller = keys.check(headers, head.route.admin)
        else:
            head.caller = keys.recognise(headers)
    except HastenError as exc:
        return exc
    if length is not None and int(length) > settings.max_body_bytes:
        return body_too_large(settings)
    return None


def too_large(settings: ServerSettings) -> HeadersTooLarge:
    """Return the error for a head over the limits."""
    return HeadersTooLarge(
        f"the headers are larger than {settings.max_header_bytes} bytes or more than {MAX_HEADERS}"
    )


def body_too_large(settings: ServerSettings) -> BodyTooLarge:
    """Return the error for a body over the limit."""
    return BodyTooLarge(f"the body is larger than {settings.max_body_bytes} bytes")


def without_upgrade(head: Head) -> bytes:
    """Return the head's bytes without its offer to change the protocol, which a server may ignore (RFC 9110, 7.8).

    Java's HTTP client, for one, offers HTTP/2 with its first request on a plain connection.
    """
    lines = [b"%b %b HTTP/1.1" % (head.method, head.target)]
    for name, value in head.headers.items():
        if name == b"connection":
            kept = [t for t in value.split(b",") if t.strip().lower() not in (b"upgrade", b"http2-settings")]
            value = b",".join(kept)
        if name not in (b"upgrade", b"http2-settings"):
            lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"
