"""Canonical JSON (RFC 8785, JCS): what is equal has the same bytes, so that a digest stands for a value."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

__all__ = ["canonical", "digest_of"]


def canonical(value: Any) -> bytes:
    """The one form of a JSON value. Raises ValueError for what is not JSON (NaN, a lone surrogate)."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.IntegerDomainError:
        return rfc8785.dumps(_with_exact_integers(value))


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical form, as 64 lower-case hex digits. Raises as `canonical` does."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _with_exact_integers(value: Any) -> Any:
    """Integers that no double holds become strings, as RFC 8785, appendix D, has it."""
    if isinstance(value, Mapping):
        return {key: _with_exact_integers(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_exact_integers(item) for item in value]
    if isinstance(value, int) and not -(2**53) < value < 2**53:
        return str(value)
    return value
