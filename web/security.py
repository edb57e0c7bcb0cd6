"""The headers that every response carries, errors and refused connections too.

The API answers data, never a document, so its policy allows nothing at all. A page (dashboard, docs) brings its own
`content-security-policy`, usually PAGE_CSP, and its own `cache-control`; what a response already names is left alone.
"""

from __future__ import annotations

from typing import Final

from web.asgi import Headers

_NO_FRAMES: Final = b"frame-ancestors 'none'"

PAGE_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

SECURITY: Final[dict[bytes, bytes]] = {
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; " + _NO_FRAMES,
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}

# What a page might ask of the browser, and ours never does (W3C Permissions Policy).
_PERMISSIONS: Final = (
    b"permissions-policy",
    b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), serial=(), usb=()",
)
HSTS: Final = (b"strict-transport-security", b"max-age=31536000")


def hardened(headers: Headers, request_id: str) -> list[tuple[bytes, bytes]]:
    """`headers` with the missing ones added and `x-request-id` set; a page's own policy still forbids framing.

    HSTS is not among them: it belongs to a host name, so only who has checked that adds it (`web/guard.py`).
    """
    result = [(name.lower(), value) for name, value in headers]
    present = set()
    page = False
    for index, (name, value) in enumerate(result):
        present.add(name)
        page = page or (name == b"content-type" and value.startswith(b"text/html"))
        if name == b"content-security-policy" and b"frame-ancestors" not in value:
            result[index] = (name, value.rstrip(b"; ") + b"; " + _NO_FRAMES)
    result += [item for item in SECURITY.items() if item[0] not in present]
    if page:
        result.append(_PERMISSIONS)
    if b"x-request-id" not in present:
        result.append((b"x-request-id", request_id.encode("ascii")))
    return result
