"""The keys that sign access tokens: one signs, and after a rotation the one before is still believed for a while.

The file holds one line for each, the signing one first:

    <secret>                                 text of 43 or more visible characters, such as 32 random bytes in base64url
    <secret> <RFC 3339 time>                 the one before, and until when its tokens are believed

or exactly 32 bytes, which are then the secret (in base64url). A key is named by its digest (`kid`), so a file needs no
names.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from protocol.times import rfc3339
from web.places import Problem
from web.private import create_private, read_private, replace_private

__all__ = ["ACCESS_S", "SigningKey", "SigningKeys", "read_signing_keys", "rotate_signing_keys"]

ACCESS_S: Final = 900
"""How long an access token is good for; so long the key before is believed after a rotation."""

_WHAT: Final = "the secret that signs access tokens"
_BYTES: Final = 32
_LINE: Final = re.compile(rb"([\x21-\x7e]{43,1024})(?: ([0-9T:.-]{19,26}Z))?")
_LEAST_DIFFERENT: Final = 8


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`until`: Unix seconds after which it is not believed any more (None: it signs)."""

    secret: bytes = field(repr=False)
    until: float | None = None

    @property
    def kid(self) -> str:
        return hashlib.sha256(b"enginehouse signing key\n" + self.secret).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """`previous`: what signed before the last rotation."""

    current: SigningKey
    previous: SigningKey | None = None

    @classmethod
    def fresh(cls) -> SigningKeys:
        """New random ones, in no file."""
        return cls(SigningKey(_random()))

    def find(self, kid: object, now: float) -> SigningKey | None:
        """The key of this name that is believed at `now`."""
        return next((key for key in self._believed(now) if key.kid == kid), None)

    def rotated(self, now: float, *, at_once: bool = False) -> SigningKeys:
        """A new key signs; the one that signed is believed until its last token has expired, unless `at_once`."""
        before = None if at_once else SigningKey(self.current.secret, now + ACCESS_S)
        return SigningKeys(SigningKey(_random()), before)

    def _believed(self, now: float) -> Iterator[SigningKey]:
        yield self.current
        if self.previous is not None and self.previous.until is not None and now < self.previous.until:
            yield self.previous


def read_signing_keys(path: Path) -> SigningKeys:
    """What the file holds; made with a random key when there is none.

    Raises:
        Problem: the file is not ours alone, is empty, holds too little, or something else.

    """
    create_private(path, lambda: _text(SigningKeys.fresh()), _WHAT)
    content = read_private(path, _WHAT)
    if not content.strip():
        raise Problem(f"{path}: {_WHAT} is empty; remove the file to get a new one.")
    if len(content) == _BYTES:
        return SigningKeys(_checked(path, base64.urlsafe_b64encode(content)))
    matches = [_LINE.fullmatch(line) for line in content.removesuffix(b"\n").split(b"\n")]
    keys = [_checked(path, match[1], match[2]) for match in matches if match is not None]
    good = len(keys) == len(matches) and [key.until is None for key in keys] in ([True], [True, False])
    if not good or len({key.secret for key in keys}) != len(keys):
        raise Problem(
            f"{path}: {_WHAT} must be 32 random bytes, or a line of 43 or more visible characters (and, after a "
            "rotation, the one before with its time); remove the file to get a new one."
        )
    return SigningKeys(*keys)


def rotate_signing_keys(path: Path, now: float, *, at_once: bool = False) -> SigningKeys:
    """Rotate the file, in one step. Raises Problem."""
    rotated = read_signing_keys(path).rotated(now, at_once=at_once)
    replace_private(path, _text(rotated), _WHAT)
    return rotated


def _random() -> bytes:
    return secrets.token_urlsafe(_BYTES).encode("ascii")


def _text(keys: SigningKeys) -> bytes:
    lines = [keys.current.secret]
    if keys.previous is not None and keys.previous.until is not None:
        lines.append(keys.previous.secret + b" " + rfc3339(round(keys.previous.until * 1000)).encode("ascii"))
    return b"\n".join(lines) + b"\n"


def _checked(path: Path, secret: bytes, until: bytes | None = None) -> SigningKey:
    if len(set(secret)) < _LEAST_DIFFERENT:
        raise Problem(f"{path}: {_WHAT} is not random; remove the file to get a new one.")
    try:
        return SigningKey(secret, None if until is None else datetime.fromisoformat(until.decode("ascii")).timestamp())
    except ValueError:
        raise Problem(
            f"{path}: {_WHAT}: {until!r} is no time; remove the line, or the file to get a new one."
        ) from None
