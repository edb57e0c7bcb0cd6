"""The one secret that all webhook secrets are derived from: 32 random bytes in a file of our own."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from web.places import Problem
from web.private import create_private, read_private

__all__ = ["webhook_key"]

SIZE: Final = 32
_WHAT: Final = "the webhook key"


def webhook_key(path: Path) -> bytes:
    """The key in the file `path`, which is created when there is none (0600).

    Raises:
        Problem: it is not ours alone, no plain file, or not 32 bytes long.

    """
    create_private(path, lambda: secrets.token_bytes(SIZE), _WHAT)
    key = read_private(path, _WHAT)
    if len(key) != SIZE:
        raise Problem(f"{path}: {_WHAT} must be {SIZE} bytes; remove the file to get a new one.")
    return key
