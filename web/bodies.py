"""What a request body must be before anybody parses it: plain JSON, announced as such, and small enough.

Small functions and not a middleware, because their place in the order of checks is after credentials, rate and route.
"""

from __future__ import annotations

from protocol.errors import EnginehouseError
from web.asgi import Headers, Receive
from web.limits import Limits
from web.refusals import TooLarge, UnsupportedMediaType


class ClientGone(EnginehouseError):
    """The client hung up before its body was complete; there is nobody to answer."""

    slug = "malformed-request"


def has_body(headers: Headers) -> bool:
    """Whether the header section announces a body (RFC 9112 6.3)."""
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ")):
            return True
    return False


def require_json(headers: Headers) -> None:
    """Refuse a body that is not announced as plain JSON; call it only where `has_body` (or a schema asks for one).

    Raises:
        UnsupportedMediaType: another or no content type, a charset other than UTF-8, any content coding.

    """
    content_type = b""
    for name, value in headers:
        if name == b"content-encoding":
            raise UnsupportedMediaType("Send the body without Content-Encoding.")
        if name == b"content-type":
            content_type = value
    media_type, _, parameters = content_type.lower().partition(b";")
    charset = parameters.strip().removeprefix(b"charset=").strip(b'"')
    if media_type.strip() != b"application/json" or charset not in {b"", b"utf-8"}:
        raise UnsupportedMediaType("Send the body as application/json in UTF-8.")


async def read_body(receive: Receive, headers: Headers, limits: Limits) -> bytes:
    """The whole body of an ASGI request, for apps below Quart.

    Raises:
        TooLarge: at once when the length is announced, else as soon as the limit is passed.
        ClientGone: the connection ended before the body did.

    """
    for name, value in headers:
        if name == b"content-length" and int(value) > limits.body_bytes:
            raise TooLarge(f"Send at most {limits.body_bytes} bytes.")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("The connection ended before the body did.")
        body += message.get("body", b"")
        if len(body) > limits.body_bytes:
            raise TooLarge(f"Send at most {limits.body_bytes} bytes.")
        if not message.get("more_body", False):
            return bytes(body)
