"""What can go wrong between an agent and its model.

    ModelError
    ├── Refused           asking again would be refused again: a wrong key, model or request
    │   └── TooLong       the conversation does not fit into the model's context
    ├── Garbled           what came is no answer of this API
    └── Unavailable       asking later may help; all attempts are used up
        ├── RateLimited   429: this key asks too much
        ├── Overloaded    503, 529: everybody does
        ├── Failed        another 5xx
        ├── Silent        nothing came in time
        └── Unreachable   no connection, or it broke

`str(error)` is a sentence for people, with the upstream's own words in it, bounded, in one line and without the key.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, Final, Self

from actors.secrets import MASK

__all__ = [
    "Failed", "Garbled", "ModelError", "Overloaded", "RateLimited", "Refused", "Silent", "TooLong", "Unavailable",
    "Unreachable", "answered", "told", "words",
]  # fmt: skip

WORDS: Final = 500
"""So many characters of what the upstream says are shown."""


class ModelError(Exception):
    """`slug`: a stable name, for a run that fails of it; `status`: the HTTP status, if there was one."""

    slug: ClassVar[str] = "model-error"

    def __init__(self, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


class Refused(ModelError):
    slug = "model-refused"


class TooLong(Refused):
    slug = "model-context-full"


class Garbled(ModelError):
    slug = "model-garbled"


class Unavailable(ModelError):
    """`retry_after_s`: when the upstream would like to be asked again, if it said so."""

    slug = "model-unavailable"

    def __init__(self, detail: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(detail, status=status)
        self.retry_after_s = retry_after_s

    def after(self, attempts: int) -> Self:
        """The same, and it says how often it was asked, if more than once."""
        if attempts > 1:
            self.args = (f"{self} (asked {attempts} times)",)
        return self


class RateLimited(Unavailable):
    slug = "model-rate-limited"


class Overloaded(Unavailable):
    slug = "model-overloaded"


class Failed(Unavailable):
    slug = "model-failed"


class Silent(Unavailable):
    slug = "model-timeout"


class Unreachable(Unavailable):
    slug = "model-unreachable"


FULL: Final = re.compile(
    r"prompt is too long|context[ _]length|context window|maximum context|exceed\w* (the )?context|request_too_large",
    re.IGNORECASE,
)
_OF_KIND: Final[dict[str, type[Unavailable]]] = {
    "api_error": Failed,
    "overloaded_error": Overloaded,
    "rate_limit_error": RateLimited,
    "rate_limit_exceeded": RateLimited,
    "server_error": Failed,
    "timeout_error": Failed,
    "vector_store_timeout": Failed,
}
_OF_STATUS: Final[dict[int, type[Unavailable]]] = {
    408: Silent, 409: Failed, 425: Failed, 429: RateLimited, 503: Overloaded, 529: Overloaded
}  # fmt: skip


def answered(
    url: str, status: int, body: bytes, *, retry_after_s: float | None, again: bool | None, secret: str
) -> ModelError:
    """The error that an answer other than 200 is. `url`: what was asked; `again`: what the upstream itself says about
    trying again.
    """
    kind, said = _said(body)
    detail = f"The model's API at {url} answered {status}: {words(said, secret)}"
    busy = _OF_STATUS.get(status, Failed if status >= 500 else None)
    if busy is not None and again is not False:
        return busy(detail, status=status, retry_after_s=retry_after_s)
    if busy is None and (status == 413 or FULL.search(f"{kind} {said}")):
        return TooLong(detail, status=status)
    return Refused(detail, status=status)


def told(kind: str, said: str, secret: str) -> ModelError:
    """The error that an upstream tells after its answer began. `kind`: its type or code."""
    detail = f"The model's API broke off: {words(said or kind, secret)}"
    if FULL.search(f"{kind} {said}"):
        return TooLong(detail)
    return _OF_KIND.get(kind, Refused if kind.startswith("invalid") else Failed)(detail)


def words(said: str, secret: str) -> str:
    """What somebody else said, to be shown: bounded, in one line, without the secret."""
    if secret:
        said = said.replace(secret, MASK)
    line = " ".join("".join(char if char.isprintable() else " " for char in said[: 4 * WORDS]).split())
    line = line if len(line) <= WORDS else line[:WORDS] + "..."
    return line or "nothing."


def _said(body: bytes) -> tuple[str, str]:
    """Type (or code) and message of an error body; a body that is none says itself."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return "", body.decode("utf-8", "replace")
    error = found.get("error", found) if isinstance(found, dict) else found
    if isinstance(error, dict):
        kind = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
        said = next((error[name] for name in ("message", "detail") if isinstance(error.get(name), str)), "")
        return str(kind or ""), said or json.dumps(error)
    return "", str(error)
