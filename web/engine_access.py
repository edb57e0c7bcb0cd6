"""What lets the programs of an engine call this house: its address, and a key that speaks for their engine alone.

They are the names that every client of ours reads, so `enginehouse` works in an engine's shell as it does elsewhere,
and may there what `web/auth/engine_tokens.py` says. Only engines whose config says `api` get them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.specs import Spec
from web.auth.engine_tokens import EngineTokens

__all__ = ["EngineAccess"]


@dataclass(frozen=True, slots=True)
class EngineAccess:
    """Asked at each start of a program: `url` is where the daemon listens."""

    tokens: EngineTokens
    url: str

    def __call__(self, spec: Spec, incarnation: int) -> Mapping[str, str]:
        token = self.tokens.mint(spec.uid, incarnation, spec.pool)
        return {"ENGINEHOUSE_URL": self.url, "ENGINEHOUSE_API_KEY": token}
