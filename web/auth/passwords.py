"""Passwords as they are kept: Argon2id (RFC 9106), 64 MiB and a seventh of a second each, two at a time.

Whoever asks for a user that does not exist waits as long as for one that does: nobody learns who has an account.
"""

from __future__ import annotations

import secrets
import unicodedata
from functools import cached_property
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from protocol.errors import ValidationFailed
from web.auth.worker import Worker

__all__ = ["MAX_BYTES", "MIN_BYTES", "Passwords"]

MIN_BYTES: Final = 12
MAX_BYTES: Final = 1024
_AT_ONCE: Final = 2


class Passwords:
    """`hasher`: with the parameters that hashes are made with from now on; `threads` False: no threads (tests)."""

    def __init__(self, hasher: PasswordHasher | None = None, *, threads: bool = True) -> None:
        self._hasher = hasher or PasswordHasher()
        self._worker = Worker(_AT_ONCE, threads=threads)

    async def hash(self, password: str) -> str:
        """What is kept of it. Raises ValidationFailed when it is too short or too long, Overloaded."""
        plain = _plain(password)
        if not MIN_BYTES <= len(plain) <= MAX_BYTES:
            fault = {
                "loc": ["body", "password"],
                "msg": f"must have {MIN_BYTES} to {MAX_BYTES} bytes",
                "type": "password_length",
            }
            raise ValidationFailed(f"Choose a password of {MIN_BYTES} to {MAX_BYTES} bytes.", errors=[fault])
        return await self._worker.run(lambda: self._hasher.hash(plain))

    async def verify(self, kept: str | None, password: str) -> bool:
        """Whether `password` is the one that `kept` was made of; None takes as long and is False. Raises Overloaded."""
        plain = _plain(password)
        return await self._worker.run(lambda: self._verify(kept, plain))

    def outdated(self, kept: str) -> bool:
        """Whether it was made with other parameters than those of now."""
        return self._hasher.check_needs_rehash(kept)

    def _verify(self, kept: str | None, plain: bytes) -> bool:
        nobodys = self._nobodys  # also for somebody, or the first nobody would take longer
        try:
            self._hasher.verify(kept or nobodys, plain)
        except (VerificationError, InvalidHashError):
            return False
        return True

    @cached_property
    def _nobodys(self) -> str:
        return self._hasher.hash(secrets.token_bytes(32))


def _plain(password: str) -> bytes:
    """As RFC 8265 4.2 has it: the same text typed on two keyboards is the same bytes."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
