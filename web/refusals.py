"""What HTTP itself can refuse: the leaves of the error tree that mean nothing without a web layer.

    EnginehouseError
    +- BadInput
    |  +- MalformedRequest, MisdirectedHost, MethodNotAllowed, UnsupportedMediaType, RequestTimeout
    |  +- TooLarge (413)
    |     +- UriTooLong (414), HeadersTooLarge (431)
    +- Denied
    |  +- OriginNotAllowed
    |  +- TokenExpired        (a kind of Unauthenticated)
    +- Conflict
       +- UserExists

They are raised like every other error of the house; `web/problems.py` turns both into answers by the same table.
"""

from __future__ import annotations

from protocol.errors import BadInput, Conflict, Denied, Unauthenticated


class MalformedRequest(BadInput):
    """Not HTTP as RFC 9112 has it, or ambiguous to somebody between the client and us; the connection is closed."""

    slug = "malformed-request"


class MisdirectedHost(BadInput):
    slug = "misdirected-host"


class MethodNotAllowed(BadInput):
    """`allow`: the methods that the target takes; becomes the `Allow` header."""

    slug = "method-not-allowed"


class UnsupportedMediaType(BadInput):
    slug = "unsupported-media-type"


class RequestTimeout(BadInput):
    slug = "request-timeout"


class TooLarge(BadInput):
    slug = "too-large"


class UriTooLong(TooLarge):
    """The target is over `uri_bytes`."""


class HeadersTooLarge(TooLarge):
    """The header section is over `header_bytes` or `header_fields`."""


class OriginNotAllowed(Denied):
    slug = "origin-not-allowed"


class TokenExpired(Unauthenticated):
    slug = "token-expired"


class UserExists(Conflict):
    slug = "user-exists"
