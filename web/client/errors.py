"""Problems of HTTP back into the exceptions that they were: the other direction of `web/problems.py`.

The table is read from the class tree itself, so an error that the house learns to raise is one that its clients learn
to catch. Light on purpose (no HTTP library, no pydantic): the quick commands of the command line use it too.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

import protocol.errors
import web.refusals
from protocol.errors import BadInput, Busy, Conflict, Denied, EnginehouseError, Missing, Unavailable

__all__ = ["Unreachable", "error_of", "unreachable"]


class Unreachable(Unavailable):
    """Nobody answers at the house's address, or what answers is not a house. Only a client can find that out, so it is
    in no table of HTTP.
    """

    slug = "unreachable"


def _by_slug(*modules: ModuleType) -> dict[str, type[EnginehouseError]]:
    """The class that introduces each slug; what only refines it (a long URI, a large header) is told by the status."""
    return {
        cls.slug: cls
        for module in modules
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, EnginehouseError) and "slug" in vars(cls)
    }


ERRORS: Final[Mapping[str, type[EnginehouseError]]] = _by_slug(protocol.errors, web.refusals)

# For the slugs of a newer house: what a status promises is in RFC 9110 15.
_BRANCH: Final[Mapping[int, type[EnginehouseError]]] = {
    401: Denied,
    403: Denied,
    404: Missing,
    409: Conflict,
    410: Missing,
    416: Conflict,
    429: Busy,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: Unavailable,
}
_STANDARD: Final = frozenset({"type", "title", "status", "detail", "instance"})


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> EnginehouseError:
    """The exception that an answer of status 400 or more tells of.

    `extra` holds the members beside the standard ones (RFC 9457 3.2): what the slug promises, `error_id`, and
    `retry_after_s` when the answer has it in a member or in its header. `headers`: names in any case.
    """
    members = _members(body)
    kind = str(members.get("type", ""))
    branch = _BRANCH.get(status, BadInput if status < 500 else EnginehouseError)
    cls = ERRORS.get(kind.rpartition("/problems/")[2], branch)
    detail = members.get("detail")
    if not isinstance(detail, str):
        detail = f"The answer was {status} without a reason: check that the address is that of an Enginehouse."
    extra = {name: value for name, value in members.items() if name not in _STANDARD}
    seconds = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    if seconds.isdecimal():
        extra.setdefault("retry_after_s", int(seconds))
    return cls(detail, **extra)


def unreachable(url: str, error: BaseException) -> Unreachable:
    """What a connection that failed means to whoever asked; a certificate that is not believed is told from silence."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unreachable(
                f"The certificate of {url} is not believed ({cause.verify_message}): name its authority, or itself, "
                "in ENGINEHOUSE_CA_FILE, and use an address that stands in it."
            )
        cause = cause.__cause__ or cause.__context__
    why = str(error) or type(error).__name__
    return Unreachable(f"Nobody answers at {url} ({why}): start the house with `enginehouse serve`, or name its URL.")


def _members(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
