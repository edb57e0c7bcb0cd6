"""Trace context (W3C Trace Context): which larger thing a request, a command and its run belong to.

Two short texts that travel as plain values: in a request's headers, in the row that accepts a command, in the
environment of a child process. What cannot be read strictly is as if it had not been sent, as the recommendation asks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.specs import STRICT

__all__ = ["Trace", "trace_of"]

STATE_CHARS: Final = 512
STATE_MEMBERS: Final = 32

# 3.2.2: version 00 is exactly this; a later version may go on behind a dash, and means the same as far as here.
_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
_KEY: Final = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER: Final = re.compile(_KEY + r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")


@dataclass(frozen=True, slots=True)
class Trace:
    """`parent`: `00-<trace id>-<span id>-<flags>`, 55 characters; `state`: what tracing systems added, at most
    `STATE_CHARS`.
    """

    __pydantic_config__ = STRICT
    parent: str
    state: str = ""

    @property
    def trace_id(self) -> str:
        return self.parent[3:35]

    @property
    def span_id(self) -> str:
        return self.parent[36:52]

    @property
    def flags(self) -> int:
        return int(self.parent[53:55], 16)

    def environment(self) -> dict[str, str]:
        """How a child process is told: the names that OpenTelemetry reads."""
        return {"TRACEPARENT": self.parent} | ({"TRACESTATE": self.state} if self.state else {})


def trace_of(parents: Sequence[str], states: Sequence[str] = ()) -> Trace | None:
    """What these `traceparent` and `tracestate` headers say; None when that is nothing, or not valid. A `tracestate`
    that is not valid is dropped alone.
    """
    match = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not (trace_id.strip("0") and span_id.strip("0")):
        return None
    return Trace(f"00-{trace_id}-{span_id}-{int(flags, 16) & 3:02x}", _state_of(states))


def _state_of(states: Sequence[str]) -> str:
    """3.3.1: members `key=value` with commas, over several headers; each key once."""
    members = [member for state in states for part in state.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    joined = ",".join(members)
    valid = len(joined) <= STATE_CHARS and len(keys) == len(members) <= STATE_MEMBERS
    return joined if valid and all(_MEMBER.fullmatch(member) for member in members) else ""
