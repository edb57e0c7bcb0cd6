"""Access tokens as somebody would make them who has the secret: well signed, and wrong in one thing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decoded(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Forge:
    """A good token, its parts, and the secret that signed it, which no attacker has."""

    def __init__(self, secret: bytes, token: str) -> None:
        self.secret = secret
        self.token = token
        self.head, self.body, self.mac = token.split(".")
        self.header: dict[str, Any] = decoded(self.head)
        self.claims: dict[str, Any] = decoded(self.body)

    def sign(
        self, header: Any = None, claims: Any = None, *, secret: bytes | None = None, digest: Any = hashlib.sha256
    ) -> str:
        """Signed for good, with what differs in it; a value of ... is left out."""
        secret = self.secret if secret is None else secret
        return self.sealed(self.part(self.header, header), self.part(self.claims, claims), secret, digest)

    def sealed(self, head: str, body: str, secret: bytes | None = None, digest: Any = hashlib.sha256) -> str:
        """These two parts and their signature."""
        said = f"{head}.{body}"
        return f"{said}.{encoded(hmac.digest(self.secret if secret is None else secret, said.encode(), digest))}"

    @staticmethod
    def part(good: dict[str, Any], change: Any) -> str:
        if isinstance(change, bytes):
            return encoded(change)
        merged = {**good, **(change or {})}
        kept = {name: value for name, value in merged.items() if value is not ...}
        return encoded(json.dumps(kept, separators=(",", ":")).encode())


def other_spelling(last: str) -> str:
    """Another last character that decodes to the same bytes, where not all of its bits count."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = alphabet.index(last)
    return alphabet[at ^ 1]
