"""What an engine asks people: all of it, checked, and the two digests that stand for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.canonical import canonical, digest_of
from protocol.answers import check_schema
from protocol.edge import as_json
from protocol.errors import ValidationFailed
from protocol.requests import APPROVE, REJECT, Option, RequestKind
from protocol.specs import MAX_LEVELS

__all__ = ["ACTION_BYTES", "VALID_S", "Question"]

VALID_S = 3600.0
"""How long an approval or a permission holds when the asker says nothing else."""
ACTION_BYTES = 64 << 10
"""How much an action, or a schema, may be."""
DOMAIN = "enginehouse/request/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`asked`: what people see, as JSON values; the rest is how it is handled."""

    asked: dict[str, Any]
    deadline_s: float | None
    default: str | None
    valid_s: float | None
    escalate_s: tuple[float, ...] | None

    @staticmethod
    def of(
        title: str, *, kind: RequestKind, detail: str, options: Sequence[Option], schema: Mapping[str, Any] | None,
        action: Any, deadline_s: float | None, default: str | None, valid_s: float | None,
        escalate_s: float | Sequence[float] | None,
    ) -> Question:  # fmt: skip
        """Raises ValidationFailed for what cannot be meant, ValueError for what is not JSON."""
        for text in (title, detail, *(word for option in options for word in (option.id, option.label))):
            if not isinstance(text, str):  # it is kept, and read again by the next house
                raise ValidationFailed(f"What a request shows to people is text, and {text!r} is none.")
        if not options and kind is not RequestKind.QUESTION:
            options = (APPROVE, REJECT)
        if default is not None and all(o.id != default for o in options):
            raise ValidationFailed(f"The default {default!r} is none of the options.")
        if valid_s is None and kind is not RequestKind.QUESTION:
            valid_s = VALID_S
        if valid_s is not None and not 0 < valid_s <= 10**9:
            raise ValidationFailed("An approval holds for more than 0 and at most 1,000,000,000 seconds.")
        asked = {
            "kind": kind.value,
            "title": title,
            "detail": detail,
            "options": [{"id": o.id, "kind": o.kind.value, "label": o.label} for o in options],
            "schema": as_json(schema),
            "action": as_json(action),
        }
        for name in ("action", "schema"):
            if len(canonical(asked[name])) > ACTION_BYTES:
                raise ValidationFailed(
                    f"The {name} of a request has at most {ACTION_BYTES} bytes; name what is large by its hash."
                )
        if asked["schema"] is not None:
            check_schema(asked["schema"])
        return Question(
            asked=asked, deadline_s=deadline_s, default=default, valid_s=valid_s, escalate_s=_levels(escalate_s)
        )

    @property
    def action_digest(self) -> str:
        """Of what is asked, whoever asks it and however often: a retried run finds its question by it."""
        return digest_of({"domain": DOMAIN, **self.asked})

    def digest(self, *, uid: str, run_id: str | None, nonce: str) -> str:
        """Of what is decided: what is asked, by which engine and run, and this time alone."""
        return digest_of({"domain": DOMAIN, **self.asked, "uid": uid, "run_id": run_id, "nonce": nonce})


def _levels(escalate_s: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if escalate_s is None:
        return None
    levels = tuple(escalate_s) if isinstance(escalate_s, Sequence) else (escalate_s,)
    if len(levels) > MAX_LEVELS or levels != tuple(sorted({level for level in levels if level > 0})):
        raise ValidationFailed(f"A request has at most {MAX_LEVELS} levels, each later than the one before it.")
    return levels
